"""What a context holds in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from taskctx_sql.context.tracking import TrackedDict, TrackedList, noted_entry
from taskctx_sql.errors import InvalidContextError
from taskctx_sql.model import ContextUpdate, Operation


class Memory:
    """What a context holds in memory. The lists and the dict know what of them was saved.

    Attributes:
        user_id: Who.
        chat_id: Which chat.
        metadata: What is known about the task.
        toggles: Which keys of the metadata are hidden.
        history: The updates, oldest first.
        files: The last operation on each file, by path.
        models: The model uses, oldest first.
        dropped: The updates that an optimize or truncate took out and no save has recorded yet, by identity.
        dropped_by: The last of the two.
        given: The metadata and the toggles that the context was made with.
    """

    __slots__ = (
        *("chat_id", "dropped", "dropped_by", "files", "given", "history", "metadata", "models", "toggles", "user_id"),
    )

    def __init__(self, user_id: Any, chat_id: Any, metadata: dict[str, Any], toggles: dict[str, Any]) -> None:
        """Begin with an empty history."""
        self.user_id = user_id
        self.chat_id = chat_id
        # Programs may assign anything.
        self.metadata: Any = metadata
        self.toggles: Any = toggles
        self.given = (dict(metadata), dict(toggles))
        self.forget()

    def forget(self) -> None:
        """Begin anew with an empty history, empty trackers, and nothing saved."""
        self.history: TrackedList[ContextUpdate] = TrackedList(prepare=own_update)
        self.models: TrackedList[Any] = TrackedList(prepare=noted_entry)
        self.files = TrackedDict()
        self.dropped: dict[int, ContextUpdate] = {}
        self.dropped_by: Operation = "optimize"

    def take_as_unsaved(self) -> None:
        """Keep all of it, none of it saved: it is another context now."""
        history, models, files = self.history, self.models, self.files
        history.let_go(history)
        models.let_go(models)
        self.forget()
        self.history.extend(history)
        self.models.extend(models)
        self.files.update(files)

    def own_history(self) -> list[ContextUpdate]:
        """Return the history, with updates of ours in the place of entries that only look like some."""
        return [own_update(place, update) for place, update in enumerate(self.history)]

    def drop(self, dropped: Iterable[ContextUpdate], kept: Iterable[ContextUpdate], operation: Operation) -> None:
        """Take updates out of the history; the record will say by what."""
        self.dropped |= {id(update): update for update in dropped}
        self.dropped_by = operation
        self.history = self.history.replaced_by(list(kept))


def own_update(place: int, entry: Any) -> ContextUpdate:
    """Return an entry of a history as an update: any object will do that has the four fields.

    Raises:
        InvalidContextError: It has not.
    """
    if isinstance(entry, ContextUpdate):
        return entry
    try:
        return ContextUpdate(entry.timestamp, entry.update_type, entry.data, entry.metadata)
    except Exception as error:
        # A class of somebody's own may raise anything.
        expected = "a ContextUpdate, or an object with its four fields"
        raise InvalidContextError(f"context_history[{place}]", entry, expected) from error


def checked_mapping(field: str, value: Any) -> dict[str, Any]:
    """Return a mapping of the data that a context is made of, as a dict of its own.

    Raises:
        InvalidContextError: It is none.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidContextError(field, value, "a dict")
    return dict(value)


def checked_list(field: str, value: Any) -> Iterable[Any]:
    """Return what is to become a list of a context.

    Raises:
        InvalidContextError: It is none.
    """
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InvalidContextError(field, value, "a list")
    return value
