"""A call of a tool that has no result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from taskctx_sql.model.key import ContextKey

# The types of updates that are a call of a tool and its result. The group in their metadata pairs them.
TOOL_CALL: Final = "tool_call"
TOOL_RESULT: Final = "tool_result"


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call of a tool in the history of a context, without a result there.

    Attributes:
        key: The context.
        seq: The call's place in the history.
        call_id: The id of the call: the ``group`` in its metadata.
        name: The name of the tool; empty if the call does not have it.
        started_at: When it was called, seconds since the epoch, UTC, or None.
    """

    key: ContextKey
    seq: int
    call_id: str
    name: str
    started_at: float | None
