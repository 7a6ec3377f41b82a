"""Values that a context keeps by name, beside its history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

StateKind = Literal["state", "label"]


@dataclass(frozen=True, slots=True)
class StateChange:
    """A named value that is set or removed.

    Attributes:
        name: Its name, of at most 2,000 bytes as UTF-8; a label's of at most 255 characters.
        value: The value, like an update's data; a label's is a text of at most 255 characters.
        removed: Whether it is removed; then there is no value. Removing one that is not there changes nothing.
        expires_at: From when on it is not read any more, seconds since the epoch, UTC; None: never.
        kind: "state", or "label" for what contexts are found by.
    """

    name: str
    value: Any = None
    removed: bool = False
    expires_at: float | None = None
    kind: StateKind = "state"


class StateEntry(NamedTuple):
    """A named value as it is stored.

    Attributes:
        name: Its name.
        value: The value.
        revision: The context's revision that set it.
        saved_at: When that was, seconds since the epoch, UTC.
        expires_at: From when on it is not read any more, seconds since the epoch, UTC; None: never.
    """

    name: str
    value: Any
    revision: int
    saved_at: float
    expires_at: float | None = None
