"""The content of a context in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from taskctx_sql.context.observable import observable_entries
from taskctx_sql.context.tracked_dict import TrackedDict
from taskctx_sql.context.tracked_list import TrackedList
from taskctx_sql.errors import InvalidContextError
from taskctx_sql.model import ContextUpdate, Operation


class Memory:
    """The content of a context in memory. The lists and the dict know what of them was saved.

    ``given`` are the metadata and the toggles that the context was created with, ``dropped`` the updates that an
    optimize or truncate removed since the last save, by identity, and ``dropped_by`` tells which of the two was last.
    """

    def __init__(self, user_id: Any, chat_id: Any, metadata: dict[str, Any], toggles: dict[str, Any]) -> None:
        self.user_id = user_id
        self.chat_id = chat_id
        # Programs may assign anything.
        self.metadata: Any = metadata
        self.toggles: Any = toggles
        self.given: tuple[dict[str, Any], dict[str, Any]] = (dict(metadata), dict(toggles))
        self.forget()

    def forget(self) -> None:
        """Start again with an empty history, empty trackers, and nothing saved."""
        self.history: TrackedList[ContextUpdate] = TrackedList(prepare=own_updates)
        self.models: TrackedList[Any] = TrackedList(prepare=observable_entries)
        self.files: TrackedDict = TrackedDict()
        self.dropped: dict[int, ContextUpdate] = {}
        self.dropped_by: Operation = "optimize"

    def take_as_unsaved(self) -> None:
        """Keep everything, as unsaved: it is another context now."""
        history, models, files = self.history, self.models, self.files
        history.unwatch(history)
        models.unwatch(models)
        self.forget()
        self.history.extend(history)
        self.models.extend(models)
        self.files.update(files)

    def own_history(self) -> list[ContextUpdate]:
        """Return the history, with entries that only have an update's fields replaced by updates."""
        return own_updates(0, self.history)

    def keep(self, kept: list[ContextUpdate], operation: Operation) -> None:
        """Remove the other updates from the history; the store records by which operation."""
        staying = set(map(id, kept))
        self.dropped |= {id(update): update for update in self.history if id(update) not in staying}
        self.dropped_by = operation
        self.history = self.history.replaced_by(kept)


def own_updates(first: int, entries: Sequence[Any]) -> list[ContextUpdate]:
    """Return entries of a history as updates; any object with the four fields is accepted.

    In errors they are numbered from ``first`` on.
    """
    return [
        entry if isinstance(entry, ContextUpdate) else _own_update(index, entry)
        for index, entry in enumerate(entries, first)
    ]


def _own_update(index: int, entry: Any) -> ContextUpdate:
    try:
        return ContextUpdate(entry.timestamp, entry.update_type, entry.data, entry.metadata)
    except Exception as error:
        # A user's class may raise anything.
        expected = "a ContextUpdate, or an object with its four fields"
        raise InvalidContextError(f"context_history[{index}]", entry, expected) from error


def checked_mapping(field: str, value: Any) -> dict[str, Any]:
    """Return a copy of a mapping as a dict; an empty one for None."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidContextError(field, value, "a dict")
    return dict(value)


def checked_list(field: str, value: Any) -> Iterable[Any]:
    """Return an iterable that can become a list of a context."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InvalidContextError(field, value, "a list")
    return value
