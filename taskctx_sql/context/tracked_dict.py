"""A dict that knows what changed since it was last saved, at a cost that follows the change."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple

from taskctx_sql.context.observable import ObservableDict, observable_entry, plain_entry


class DictDifference(NamedTuple):
    """What a dict needs to be saved: changes as (key, entry, position or None, whether it was removed)."""

    changes: Sequence[tuple[Any, Any, int | None, bool]]
    keys: Collection[Any]
    unplaced: Sequence[Any]
    removed: Sequence[Any]


# What a dict hands out that has not changed.
UNCHANGED: Final = DictDifference((), (), (), ())


class TrackedDict(ObservableDict[Any, Any]):
    """A dict of entries that knows which keys changed, and each saved key's position in the store.

    `hand_out` returns the difference, and `confirm` or `abandon` must follow: the difference is saved, or stays
    unsaved. Changes in between belong to the next one.
    """

    __slots__ = ("_added_again", "_changes", "_handed_out", "_positions")

    def __init__(self, saved: Iterable[tuple[int, Any, Any]] = ()) -> None:
        """Start with saved entries, given as (position, key, entry), in order."""
        super().__init__()
        self._listeners = (self._note,)
        self._changes: dict[Any, None] = {}
        self._handed_out: DictDifference | None = None
        # None: the store has the key, but it was removed here and added again, at the end.
        self._positions: dict[Any, int | None] = {}
        # The keys that were added at the end since the last difference was handed out.
        self._added_again: set[Any] = set()
        for position, key, entry in saved:
            dict.__setitem__(self, key, observable_entry(self._wrap(key, entry)))
            self._positions[key] = position

    def replaced_by(self, items: Any) -> TrackedDict:
        """Return a new dict of ``items`` that takes over this one's state; this one is not tracked any more."""
        new = TrackedDict()
        for name in self.__slots__:
            setattr(new, name, getattr(self, name))
        new._changes |= dict.fromkeys(self)
        new._positions |= dict.fromkeys(key for key in self if key in self._positions)
        new.update(items)
        self._listeners = ()
        return new

    @property
    def has_changes(self) -> bool:
        """Whether there is a difference."""
        return any(key in self or key in self._positions for key in self._changes)

    def difference(self) -> DictDifference:
        """Return what is unsaved, and change nothing."""
        keys = self._changes
        if not keys:
            return UNCHANGED
        present = [key for key in keys if key in self]
        unplaced = [key for key in present if self._positions.get(key) is None]
        removed = [key for key in keys if key not in self and key in self._positions]
        changes = [(key, plain_entry(self[key]), self._positions.get(key), False) for key in present]
        return DictDifference(changes + [(key, None, None, True) for key in removed], keys, unplaced, removed)

    def hand_out(self) -> DictDifference:
        """Return what is unsaved, or `UNCHANGED`; `confirm` makes this state the saved one."""
        if not self._changes:
            self._handed_out = UNCHANGED
            return UNCHANGED
        for key in self._changes:
            entry = self.get(key)
            if isinstance(entry, ObservableDict):
                entry.observe_nested()
        self._handed_out = self.difference()
        self._changes, self._added_again = {}, set()
        return self._handed_out

    def confirm(self, first_position: int) -> None:
        """Take what was handed out as saved; its new keys have positions from ``first_position`` on."""
        difference = self._handed_out
        assert difference is not None
        for key in difference.removed:
            del self._positions[key]
        for position, key in enumerate(difference.unplaced, first_position):
            self._positions[key] = None if key in self._added_again else position
        self._handed_out = None

    def abandon(self) -> None:
        """Take what was handed out as unsaved again."""
        difference = self._handed_out
        assert difference is not None
        # A key that was added at the end meanwhile stays there.
        self._changes = {key: None for key in difference.keys if key not in self._added_again} | self._changes
        self._handed_out = None

    def __setitem__(self, key: Any, value: Any) -> None:
        if key not in self:
            # It is added at the end, here and in the store.
            self._changes.pop(key, None)
            self._added_again.add(key)
            if key in self._positions:
                self._positions[key] = None
        super().__setitem__(key, self._wrap(key, value))

    def _note(self, key: Any) -> None:
        self._changes[key] = None

    def _wrap(self, key: Any, entry: Any) -> Any:
        if not isinstance(entry, dict):
            return entry
        return ObservableDict(entry, lambda _: self._note(key))
