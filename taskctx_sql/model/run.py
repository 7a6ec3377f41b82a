"""One use of a context by a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RunOutcome = Literal["completed", "failed", "cancelled"]


# Not frozen, as `Delta`: each save makes one.
@dataclass(slots=True)
class Run:
    """A ``with`` block of a context, or the time from a first save to the last one.

    ``saves`` counts the run's saves, including the one that carries it. ``run_id`` and ``saves`` identify a save: a
    store that has this count already wrote that save before.
    """

    run_id: str
    saves: int
    started_at: float
    ended_at: float | None = None
    outcome: RunOutcome | None = None
    error: str | None = None

    def next_save(self) -> Run:
        """Return the run with its next save."""
        return Run(self.run_id, self.saves + 1, self.started_at, self.ended_at, self.outcome, self.error)

    def after(self, saved: Run) -> Run:
        """Return the run after the save of ``saved``; it may have ended meanwhile."""
        if self.ended_at == saved.ended_at:
            return saved
        return Run(self.run_id, saved.saves, self.started_at, self.ended_at, self.outcome, self.error)
