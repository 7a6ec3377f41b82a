"""A turn: what the user said and all that follows it. It is one run of the context."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from taskctx_sql import ContextUpdate
from taskctx_sql.integrations import recording
from taskctx_sql.integrations.openai_agents.items import is_user_message, item_type, update_of


@dataclass
class Turn:
    """A turn, and what hooks have seen of it.

    Attributes:
        seq: The seq of the user's message that it began with; None if this session has not written it.
        run: What the hooks know the agent's run by; None if they have not seen one.
        is_answered: Whether anything but messages of the user was written.
        is_finished: Whether the run has its output, as hooks have seen.
        has_ended: Whether its run has ended in the record; what is written to it later goes on with it.
        usage: The run's usage, until it is written.
        started: When tools were called, by the calls' ids, until the session gets the items.
        ended: When they had their results, and why they failed, likewise.
    """

    seq: int | None = None
    run: object | None = None
    is_answered: bool = False
    is_finished: bool = False
    has_ended: bool = False
    usage: dict[str, Any] | None = None
    started: dict[str, float] = field(default_factory=dict)
    ended: dict[str, tuple[float, str | None]] = field(default_factory=dict)

    def begin_tool(self, call_id: str) -> None:
        """Note that a tool is called."""
        self.started[call_id] = time.time()

    def end_tool(self, call_id: str, error: str | None) -> None:
        """Note that a tool has a result, or failed."""
        self.ended[call_id] = (time.time(), error)

    def update(self, item: Any) -> ContextUpdate:
        """Return an item as an update of the time when it happened."""
        kind, data, metadata = update_of(item)
        call_id, at = metadata.get("group", ""), time.time()
        if kind == recording.TOOL_CALL:
            at = self.started.pop(call_id, at)
        elif kind == recording.TOOL_RESULT:
            at, error = self.ended.pop(call_id, (at, None))
            metadata |= {} if error is None else {"error": error}
        return ContextUpdate(at, kind, data, metadata)

    def written(self, items: Sequence[Any], first_seq: int) -> None:
        """Note which items were written."""
        begins = [place for place, item in enumerate(items) if is_user_message(item)]
        if begins:
            self.seq = first_seq + begins[-1]
        self.is_answered = self.is_answered or len(begins) < len(items)

    def ends_with(self, items: Sequence[Any]) -> bool:
        """Return whether the turn ends with these items: as hooks say, else with a message of the assistant."""
        return self.is_finished if self.run is not None else item_type(items[-1]) == "assistant"

    @property
    def failure(self) -> str | None:
        """Why it failed, as far as hooks have seen."""
        return "the agent's run did not end" if self.run is not None and not self.is_finished else None
