"""A list and a dict that know what changed since they were last saved, at a cost that follows the change.

Both work in three steps: `peek` hands out the difference, and then either `confirm` makes it the saved state or
`abandon` leaves it unsaved. Changes made in between belong to the next difference.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Self, SupportsIndex, TypeVar

from taskctx_sql.records import ContextUpdate

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class _Image(Generic[T]):
    """A state of a list: its first ``count`` items, or, once they were moved, ``rows``."""

    count: int
    rows: list[T] | None = None


@dataclass(frozen=True, slots=True)
class ListDifference(Generic[T]):
    """What a list needs to be saved: items to append, and the seqs of rows that are gone, with what they held."""

    appended: list[T]
    removed: list[int]
    removed_items: list[T]


class TrackedList(list[T]):
    """A list whose appends are known in O(1), and whose other changes are noticed.

    The rows that a store holds have rising seqs, and new ones come after them. So the saved rows that still stand
    in their order at the head of the list are kept, and all that follows is written anew.
    """

    __slots__ = ("_edited", "_edited_before", "_kept", "_pending", "_saved", "_seqs")

    def __init__(self, items: Iterable[T] = (), seqs: Iterable[int] = (), edits: dict[int, T] | None = None) -> None:
        """Take ``items``; the first ones are saved already, under ``seqs``, and note edits in ``edits``, if given."""
        super().__init__(items)
        self._seqs = array("q", seqs)
        self._saved: _Image[T] = _Image(len(self._seqs))
        self._pending: _Image[T] | None = None
        self._kept: list[int] | None = None
        self._edited: dict[int, T] = {} if edits is None else edits
        self._edited_before: dict[int, T] = {}
        if edits is None:
            _watch(self[: len(self._seqs)], self._edited)

    def replaced_by(self, items: Iterable[T]) -> TrackedList[T]:
        """Return a new list of ``items`` that takes over what is known; this one is tracked no more."""
        self._keep_rows()
        new: TrackedList[T] = TrackedList(items)
        for name in ("_seqs", "_saved", "_pending", "_kept", "_edited", "_edited_before"):
            setattr(new, name, getattr(self, name))
        self._saved, self._pending, self._seqs = _Image(0, []), None, array("q")
        return new

    @property
    def has_changes(self) -> bool:
        """Whether `peek` would find a difference. May say True after changes that cancel each other out."""
        return self._saved.rows is not None or bool(self._edited) or len(self) != self._saved.count

    @property
    def unsaved_count(self) -> int:
        """How many items `peek` would hand out at the least."""
        return len(self) - self._saved.count if self._saved.rows is None else 0

    @property
    def seqs(self) -> Sequence[int]:
        """The seqs of the saved rows, in order."""
        return self._seqs

    def peek(self) -> ListDifference[T]:
        """Hand out what is unsaved, and take the present state as the one that `confirm` will confirm."""
        if self._edited:
            # The watched items hold the log itself, so it is emptied in place.
            self._edited_before = dict(self._edited)
            self._edited.clear()
        rows = self._saved.rows
        if rows is None and not self._edited_before:
            self._kept = None
            difference = ListDifference(list(self[self._saved.count :]), [], [])
        else:
            difference = self._compare(self[: self._saved.count] if rows is None else rows)
        self._pending = _Image(len(self))
        _watch(difference.appended, self._edited)
        return difference

    def confirm(self, first_seq: int) -> None:
        """The difference is saved: its appended items have seqs from ``first_seq`` on."""
        pending = self._pending
        assert pending is not None
        if self._kept is not None:
            self._seqs = array("q", (self._seqs[at] for at in self._kept))
        self._seqs.extend(range(first_seq, first_seq + pending.count - len(self._seqs)))
        self._saved, self._pending, self._kept = pending, None, None
        self._edited_before = {}

    def abandon(self) -> None:
        """The difference was not saved: it stays unsaved."""
        self._edited.update(self._edited_before)
        self._pending, self._kept, self._edited_before = None, None, {}

    def _compare(self, rows: Sequence[T]) -> ListDifference[T]:
        kept: list[int] = []
        at = 0
        for item in self:
            if id(item) in self._edited_before:
                break
            while at < len(rows) and rows[at] is not item:
                at += 1
            if at == len(rows):
                break
            kept.append(at)
            at += 1
        self._kept = kept
        gone = sorted(set(range(len(rows))).difference(kept))
        return ListDifference(list(self[len(kept) :]), [self._seqs[at] for at in gone], [rows[at] for at in gone])

    def _keep_rows(self) -> None:
        """Before the items move: the images get rows of their own."""
        for image in (self._saved, self._pending):
            if image is not None and image.rows is None:
                image.rows = self[: image.count]

    def __reduce__(self) -> tuple[type[list[T]], tuple[list[T]]]:
        return (list, (list(self),))

    # Appending (append, extend, +=) is the list's own; whatever moves or removes items keeps the rows first.

    def __setitem__(self, key: Any, value: Any) -> None:
        self._keep_rows()
        super().__setitem__(key, value)

    def __delitem__(self, key: SupportsIndex | slice) -> None:
        self._keep_rows()
        super().__delitem__(key)

    def __imul__(self, value: SupportsIndex) -> Self:
        self._keep_rows()
        super().__imul__(value)
        return self

    def insert(self, index: SupportsIndex, item: T, /) -> None:
        self._keep_rows()
        super().insert(index, item)

    def pop(self, index: SupportsIndex = -1, /) -> T:
        self._keep_rows()
        return super().pop(index)

    def remove(self, value: T, /) -> None:
        self._keep_rows()
        super().remove(value)

    def clear(self) -> None:
        self._keep_rows()
        super().clear()

    def sort(self, *, key: Any = None, reverse: bool = False) -> None:
        self._keep_rows()
        super().sort(key=key, reverse=reverse)

    def reverse(self) -> None:
        self._keep_rows()
        super().reverse()


def _watch(items: list[Any], log: dict[int, Any]) -> None:
    """Note later edits of the items in ``log``, by identity, as far as they tell of them."""
    if all(type(item) is ContextUpdate for item in items):
        ContextUpdate.watch_all(items, log)
        return
    for item in items:
        watch = getattr(item, "watch", None)
        if watch is not None:
            watch(log)


class NotedDict(dict[K, V]):
    """A dict that tells which of its keys change, to all who watch."""

    __slots__ = ("_listeners",)

    def __init__(self, items: Any = (), listener: Callable[[Any], None] | None = None) -> None:
        """Take the items; ``listener`` hears of every later change, by key."""
        super().__init__(items)
        self._listeners: tuple[Callable[[Any], None], ...] = () if listener is None else (listener,)

    def watch(self, log: dict[int, Any]) -> None:
        """Note later changes of this dict in ``log``, by identity."""
        if not any(getattr(known, "log", None) is log for known in self._listeners):
            self._listeners = (*self._listeners, _Note(log, self))

    def _changed(self, key: Any) -> None:
        for listener in self._listeners:
            listener(key)

    def __reduce__(self) -> tuple[type[dict[K, V]], tuple[dict[K, V]]]:
        return (dict, (dict(self),))

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self._changed(key)

    def __delitem__(self, key: K) -> None:
        super().__delitem__(key)
        self._changed(key)

    def __ior__(self, other: Any) -> Self:  # type: ignore[override, misc]  # dict has two overloads of it, for other types
        self.update(other)
        return self

    def pop(self, key: K, *default: Any) -> Any:
        if key not in self:
            return super().pop(key, *default)
        value = super().pop(key)
        self._changed(key)
        return value

    def popitem(self) -> tuple[K, V]:
        key, value = super().popitem()
        self._changed(key)
        return key, value

    def clear(self) -> None:
        keys = list(self)
        super().clear()
        for key in keys:
            self._changed(key)

    def setdefault(self, key: K, default: Any = None, /) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *others: Any, **named: Any) -> None:
        for key, value in dict(*others, **named).items():
            self[key] = value


@dataclass(frozen=True, slots=True)
class _Note:
    """A listener that notes the dict itself as edited."""

    log: dict[int, Any]
    noted: Any

    def __call__(self, key: Any) -> None:
        self.log[id(self.noted)] = self.noted


class TrackedDict(NotedDict[Any, Any]):
    """A dict of entries that knows which keys changed, and each saved key's position in the store."""

    __slots__ = ("_changes", "_changes_before", "_gone", "_positions", "_unplaced")

    def __init__(self, saved: Iterable[tuple[int, Any, Any]] = ()) -> None:
        """Take saved entries as (position, key, entry), in order."""
        super().__init__()
        self._listeners = (self._note,)
        self._changes: dict[Any, None] = {}
        self._changes_before: dict[Any, None] = {}
        # None: the store has the key, but it was taken out here and put in again, at the end.
        self._positions: dict[Any, int | None] = {}
        self._unplaced: list[Any] = []
        self._gone: list[Any] = []
        for position, key, entry in saved:
            dict.__setitem__(self, key, self._wrap(key, entry))
            self._positions[key] = position

    def replaced_by(self, items: Any) -> TrackedDict:
        """Return a new dict of ``items`` that takes over what is known; this one is tracked no more."""
        new = TrackedDict()
        for name in ("_changes", "_changes_before", "_positions", "_unplaced", "_gone"):
            setattr(new, name, getattr(self, name))
        new._changes |= dict.fromkeys(self)
        new._positions |= dict.fromkeys(key for key in self if key in self._positions)
        new.update(items)
        self._listeners = ()
        return new

    @property
    def has_changes(self) -> bool:
        """Whether `peek` would find a difference."""
        return any(key in self or key in self._positions for key in self._changes)

    def peek(self) -> list[tuple[Any, Any, int | None, bool]]:
        """Hand out what is unsaved as (key, entry, position or None, whether it is gone)."""
        if not self._changes:
            return []
        self._changes_before, self._changes = self._changes, {}
        present = [key for key in self._changes_before if key in self]
        self._unplaced = [key for key in present if self._positions.get(key) is None]
        self._gone = [key for key in self._changes_before if key not in self and key in self._positions]
        difference = [(key, _plain(self[key]), self._positions.get(key), False) for key in present]
        return difference + [(key, None, None, True) for key in self._gone]

    def confirm(self, first_position: int) -> None:
        """The difference is saved: its new keys have positions from ``first_position`` on."""
        for key in self._gone:
            del self._positions[key]
        for position, key in enumerate(self._unplaced, first_position):
            self._positions[key] = position
        self._changes_before, self._unplaced, self._gone = {}, [], []

    def abandon(self) -> None:
        """The difference was not saved: it stays unsaved."""
        self._changes = {**self._changes_before, **self._changes}
        self._changes_before, self._unplaced, self._gone = {}, [], []

    def __setitem__(self, key: Any, value: Any) -> None:
        if key not in self:
            # It goes to the end, here and in the store.
            self._changes.pop(key, None)
            if key in self._positions:
                self._positions[key] = None
        super().__setitem__(key, self._wrap(key, value))

    def _note(self, key: Any) -> None:
        self._changes[key] = None

    def _wrap(self, key: Any, entry: Any) -> Any:
        if not isinstance(entry, dict):
            return entry
        return NotedDict(entry, lambda _: self._note(key))


def _plain(entry: Any) -> Any:
    return dict(entry) if isinstance(entry, dict) else entry
