"""What happened in a task, as rows of its waterfall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from taskctx_sql.pages.scales import duration, when

Kind = Literal["run", "model", "tool", "task", "error"]


@dataclass(frozen=True, slots=True)
class Step:
    """A row of a waterfall.

    Attributes:
        kind: What it is.
        name: The name of the model, the tool or the sub-task; "Run" for a run.
        started_at: When it began; None if that is not known.
        ended_at: When it ended; None if it did not, or that is not known.
        outcome: "completed", "failed", "cancelled", "unfinished" or "open".
        note: More about it: tokens, cost, or why it failed.
        seq: The update that it is; None for what is none.
        chat_id: The sub-task; None for what is none.
        run_id: The run that it belongs to.
        place: Where its bar begins, in percent of the axis.
        width: How long its bar is, in percent of the axis.
    """

    kind: Kind
    name: str
    started_at: float | None
    ended_at: float | None
    outcome: str = "completed"
    note: str = ""
    seq: int | None = None
    chat_id: str | None = None
    run_id: str = ""
    place: float = 0.0
    width: float = 0.0

    @property
    def duration(self) -> float | None:
        """How many seconds it took, or None."""
        return None if self.started_at is None or self.ended_at is None else self.ended_at - self.started_at

    @property
    def kind_word(self) -> str:
        """What it is, in words."""
        return {"model": "model", "tool": "tool", "task": "sub-task"}.get(self.kind, self.kind)

    @property
    def words(self) -> str:
        """What a bar says when it is pointed at."""
        parts = (self.name, self.outcome, duration(self.duration), f"from {when(self.started_at)}", self.note)
        return ", ".join(part for part in parts if part)
