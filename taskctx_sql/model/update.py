"""An entry of a context's history."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any

_set = object.__setattr__


@dataclass(init=False)
class ContextUpdate:
    """One entry of a context's history.

    Attributes:
        timestamp: When it was created, seconds since the epoch, UTC.
        update_type: "message", "metadata", "resource", "file_operation", "model_usage", or a type of your own.
        data: The content. The page "Values" of the docs lists what each kind of value becomes on reload.
        metadata: More about it.

    The context that holds a saved update detects when one of its attributes is set, and the next save writes it.
    Changes deep inside ``data`` or ``metadata`` are not detected.
    """

    __slots__ = ("_edit_logs", "data", "metadata", "timestamp", "update_type")

    timestamp: float
    update_type: str
    data: Any
    metadata: dict[str, Any]

    if TYPE_CHECKING:
        # Where edits are noted. No field, so that only the four make two updates equal.
        _edit_logs: tuple[dict[int, Any], ...]

    def __init__(self, timestamp: float, update_type: str, data: Any, metadata: dict[str, Any]) -> None:
        """Create an update; a context's ``add_context_update`` does this for you."""
        # Past our own __setattr__, which is for edits of a complete update.
        _set(self, "timestamp", timestamp)
        _set(self, "update_type", update_type)
        _set(self, "data", data)
        _set(self, "metadata", metadata)
        _set(self, "_edit_logs", ())

    def __setattr__(self, name: str, value: Any) -> None:
        _set(self, name, value)
        for log in self._edit_logs:
            log[id(self)] = self

    def watch(self, log: dict[int, Any]) -> None:
        """Note later edits of this update in ``log``, by identity."""
        if not self._edit_logs:
            _set(self, "_edit_logs", (log,))
        elif not any(known is log for known in self._edit_logs):
            _set(self, "_edit_logs", (*self._edit_logs, log))

    def unwatch(self, log: dict[int, Any]) -> None:
        """Stop noting edits in ``log``."""
        _set(self, "_edit_logs", tuple(known for known in self._edit_logs if known is not log))

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles are updates of their own that no context watches. The content may contain the update.
        content = {"data": self.data, "metadata": self.metadata}
        return (ContextUpdate, (self.timestamp, self.update_type, None, {}), (None, content))

    def to_dict(self) -> dict[str, Any]:
        """Return the four fields as a dictionary, in the order of the arguments."""
        return {
            "timestamp": self.timestamp,
            "update_type": self.update_type,
            "data": self.data,
            "metadata": self.metadata,
        }


def watch_all(items: Sequence[Any], log: dict[int, Any]) -> None:
    """Note later edits of the items in ``log``, by identity, as far as they report edits."""
    if len(items) > 8 and all(type(item) is ContextUpdate for item in items):
        slot = ContextUpdate.__dict__["_edit_logs"]
        if not any(map(slot.__get__, items)):
            # A line of Python for each item would take ten times as long.
            deque(map(slot.__set__, items, repeat((log,))), maxlen=0)
            return
    for item in items:
        watch = getattr(item, "watch", None)
        if watch is not None:
            watch(log)
