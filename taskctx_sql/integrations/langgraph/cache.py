"""Values of channels and elements of lists that were written or read last, so that they are not read again.

An entry that has them never changes: another value has another name. What of them a checkpoint has is always read.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from taskctx_sql import ContextKey
from taskctx_sql.integrations.langgraph import lists

# In characters of what is kept, over all threads of a saver.
_MOST: Final = 32 * 1024 * 1024


class Cache:
    """Entries of all threads, the last used ones up to a total size."""

    def __init__(self) -> None:
        # By thread and name; those of a list by the name of its growth.
        self._entries: OrderedDict[tuple[ContextKey, str], Any] = OrderedDict()
        self._sizes: dict[tuple[ContextKey, str], int] = {}
        self._size = 0

    def add(self, key: ContextKey, name: str, value: Any) -> None:
        """Keep an entry of a thread."""
        if name.startswith("list/"):
            growth, token, piece = lists.piece(name, value)
            known = self._entries.setdefault((key, growth), {})
            size = 0 if token in known else sum(len(str(element[-1])) for element in value["elements"])
            known[token] = piece
            self._grow((key, growth), size)
        elif name.startswith("channel/"):
            self._entries[key, name] = value
            self._grow((key, name), len(value[-1]) - self._sizes.get((key, name), 0))

    def _grow(self, place: tuple[ContextKey, str], size: int) -> None:
        self._sizes[place] = self._sizes.get(place, 0) + size
        self._size += size
        self._entries.move_to_end(place)
        while self._size > _MOST:
            self._drop(next(iter(self._entries)))

    def _drop(self, place: tuple[ContextKey, str]) -> None:
        del self._entries[place]
        self._size -= self._sizes.pop(place)

    def get(self, key: ContextKey, name: str) -> Any:
        """Return a channel's value or the pieces of a growth by their tokens, as far as they are known; None if not."""
        found = self._entries.get((key, name))
        if found is not None:
            self._entries.move_to_end((key, name))
        return found

    def forget(self, key: ContextKey) -> None:
        """Drop what a thread has."""
        for place in [place for place in self._entries if place[0] == key]:
            self._drop(place)
