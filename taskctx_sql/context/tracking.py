"""A list and a dict that know what changed since they were last saved, at a cost that follows the change.

Both work in three steps: `hand_out` returns the difference, and then either `confirm` makes it the saved state or
`abandon` leaves it unsaved. Both require the difference that was handed out last; any other raises
`SaveOrderError` before anything changes. Changes made in between belong to the next difference.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Final, Generic, Self, SupportsIndex, TypeVar

from taskctx_sql.errors import SaveOrderError
from taskctx_sql.model import watch_all

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

# How deep within a tracker's entry changes are noticed. It ends somewhere, since an entry may contain itself.
NOTED_LEVELS: Final = 8


@dataclass(slots=True)
class _Image(Generic[T]):
    """A state of a list: its first ``count`` items, or, once they were moved, ``rows``."""

    count: int
    rows: list[T] | None = None


@dataclass(slots=True, eq=False)
class ListDifference(Generic[T]):
    """What a list needs to be saved: items to append, and the seqs of rows that are gone, with what they held.

    ``kept`` has the places of the saved rows that stay, or is None if all of them do. ``again`` has the seqs, by
    identity, of saved items that are appended again: those that were edited, which ``edited`` has, and those that stand
    after a change.
    """

    appended: list[T]
    removed: list[int]
    removed_items: list[T]
    kept: list[int] | None = None
    again: Mapping[int, int] = field(default_factory=dict)
    edited: Collection[int] = ()


@dataclass(slots=True, eq=False)
class DictDifference:
    """What a dict needs to be saved, each as (key, entry, position or None, whether it is gone)."""

    changes: list[tuple[Any, Any, int | None, bool]]
    keys: dict[Any, None]
    unplaced: list[Any]
    gone: list[Any]


class TrackedList(list[T]):
    """A list whose appends are known in O(1), and whose other changes are noticed.

    The rows that a store holds have rising seqs, and new ones come after them. So the saved rows that still stand
    in their order at the head of the list are kept, and all that follows is written anew.
    """

    __slots__ = ("_edited", "_edited_before", "_handed_out", "_pending", "_prepare", "_saved", "_seqs", "_stand_ins")

    def __init__(
        self,
        items: Iterable[T] = (),
        seqs: Iterable[int] = (),
        edits: dict[int, T] | None = None,
        *,
        prepare: Callable[[int, Any], T] | None = None,
    ) -> None:
        """Take ``items``.

        Args:
            items: The first ones are saved already, under ``seqs``.
            seqs: The seqs of the saved ones.
            edits: Where the saved ones note their edits already, if they do.
            prepare: Makes of each place and item that is handed out what stands in its place from then on.
        """
        super().__init__(items)
        self._seqs = array("q", seqs)
        self._saved: _Image[T] = _Image(len(self._seqs))
        self._pending: _Image[T] | None = None
        self._handed_out: ListDifference[T] | None = None
        self._prepare = prepare
        self._edited: dict[int, T] = {} if edits is None else edits
        self._edited_before: dict[int, T] = {}
        # The seqs of rows in whose place something else stands, by its identity.
        self._stand_ins: Mapping[int, int] = {}
        if edits is None:
            watch_all(self[: len(self._seqs)], self._edited)

    def replaced_by(self, items: Iterable[T], stand_ins: Mapping[int, int] | None = None) -> TrackedList[T]:
        """Return a new list of ``items`` that takes over what is known; this one is tracked no more.

        Args:
            items: What the list holds from now on.
            stand_ins: The seqs of saved rows in whose place an edited item stands, by the item's identity.
        """
        self._keep_rows()
        new: TrackedList[T] = TrackedList(items)
        for name in (
            "_seqs",
            "_saved",
            "_pending",
            "_handed_out",
            "_prepare",
            "_edited",
            "_edited_before",
            "_stand_ins",
        ):
            setattr(new, name, getattr(self, name))
        if stand_ins is not None:
            new._stand_ins = stand_ins
        self._saved, self._pending, self._handed_out, self._seqs = _Image(0, []), None, None, array("q")
        return new

    def with_rows(self, items: list[T], seqs: Sequence[int]) -> TrackedList[T]:
        """Return a new list whose saved rows are these; edits of those that this one has are noted there as well."""
        new = TrackedList(items, seqs, self._edited, prepare=self._prepare)
        watch_all(items, self._edited)
        return new

    @property
    def has_changes(self) -> bool:
        """Whether there is a difference. May say True after changes that cancel each other out."""
        return self._saved.rows is not None or bool(self._edited) or len(self) != self._saved.count

    @property
    def unsaved_count(self) -> int:
        """How many items would be handed out at the least."""
        return len(self) - self._saved.count if self._saved.rows is None else 0

    @property
    def seqs(self) -> Sequence[int]:
        """The seqs of the saved rows, in order."""
        return self._seqs

    @property
    def saved(self) -> dict[int, T]:
        """The items that the store has, by seq, whether or not they are in the list still."""
        rows = self[: self._saved.count] if self._saved.rows is None else self._saved.rows
        return dict(zip(self._seqs, rows, strict=True))

    def difference(self) -> ListDifference[T]:
        """Return what is unsaved, and change nothing."""
        rows, edited = self._saved.rows, self._edited_before | self._edited if self._edited else self._edited_before
        if rows is None and not edited:
            return ListDifference(self[self._saved.count :], [], [])
        rows = self[: self._saved.count] if rows is None else rows
        kept: list[int] = []
        at = 0
        for item in self:
            if id(item) in edited:
                break
            while at < len(rows) and rows[at] is not item:
                at += 1
            if at == len(rows):
                break
            kept.append(at)
            at += 1
        gone = sorted(set(range(len(rows))).difference(kept))
        appended = self[len(kept) :]
        present = set(map(id, appended))
        again = {id(rows[at]): self._seqs[at] for at in gone if id(rows[at]) in present}
        stand_ins = {item: seq for item, seq in self._stand_ins.items() if item in present}
        removed = [self._seqs[at] for at in gone]
        changed = edited.keys() & again.keys() | stand_ins.keys()
        return ListDifference(appended, removed, [rows[at] for at in gone], kept, again | stand_ins, changed)

    def hand_out(self) -> ListDifference[T]:
        """Return what is unsaved, and take the present state as the one that `confirm` will confirm.

        Raises:
            SaveOrderError: What was handed out before is neither confirmed nor abandoned.
        """
        if self._handed_out is not None:
            raise SaveOrderError()
        difference = self.difference()
        if difference.appended and self._prepare is not None:
            self._prepare_tail(difference.appended, self._prepare)
        if self._edited:
            # The watched items hold the log itself, so it is emptied in place.
            self._edited_before = dict(self._edited)
            self._edited.clear()
        self._pending, self._handed_out = _Image(len(self)), difference
        if difference.appended:
            watch_all(difference.appended, self._edited)
        return difference

    def confirm(self, difference: ListDifference[T], first_seq: int) -> None:
        """The difference is saved: its appended items have seqs from ``first_seq`` on."""
        pending = self._pending
        if pending is None or difference is not self._handed_out:
            raise SaveOrderError()
        if difference.kept is not None:
            self._seqs = array("q", (self._seqs[at] for at in difference.kept))
        self._seqs.extend(range(first_seq, first_seq + len(difference.appended)))
        self._saved, self._pending, self._handed_out = pending, None, None
        self._edited_before, self._stand_ins = {}, {}

    def abandon(self, difference: ListDifference[T]) -> None:
        """The difference was not saved: it stays unsaved."""
        if difference is not self._handed_out:
            raise SaveOrderError()
        self._edited.update(self._edited_before)
        self._pending, self._handed_out, self._edited_before = None, None, {}

    def let_go(self, items: Iterable[Any]) -> None:
        """Hear of edits of these items no more: they are in another list now."""
        for item in items:
            if hasattr(item, "unwatch"):
                item.unwatch(self._edited)

    def _prepare_tail(self, appended: list[T], prepare: Callable[[int, Any], T]) -> None:
        # All of them first: one that is refused leaves the list as it was.
        first = len(self) - len(appended)
        made = [prepare(place, item) for place, item in enumerate(appended, first)]
        for at, item in enumerate(made):
            if item is not appended[at]:
                appended[at] = item
                super().__setitem__(first + at, item)

    def _keep_rows(self) -> None:
        """Before the items move: the images get rows of their own."""
        for image in (self._saved, self._pending):
            if image is not None and image.rows is None:
                image.rows = self[: image.count]

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy is a plain list: what was saved is known of this one alone.
        return _as_list(self)

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

    def unwatch(self, log: dict[int, Any]) -> None:
        """Note later changes in ``log`` no more."""
        self._listeners = tuple(known for known in self._listeners if getattr(known, "log", None) is not log)

    def _changed(self, key: Any) -> None:
        for listener in self._listeners:
            listener(key)

    def __reduce__(self) -> tuple[Any, ...]:
        # The items come when the copy is there, since it may contain itself.
        return (dict, (), None, None, iter(list(self.items())))

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        self._changed(key)

    def __delitem__(self, key: K) -> None:
        super().__delitem__(key)
        self._changed(key)

    def note_nested(self) -> None:
        """Replace the dicts and lists in it by ones whose changes are changes of it, `NOTED_LEVELS` deep."""
        for key, value in self.items():
            if type(value) in _NOTABLE:
                # In the place of an equal one, so the loop may go on.
                super().__setitem__(key, _noted(value, _Below(self, key), NOTED_LEVELS))

    def is_part_of(self, changed: _Below) -> bool:
        """Whether ``changed`` hears of this dict's changes already."""
        return any(isinstance(known, _Below) and known.is_same(changed) for known in self._listeners)

    def note_items(self, changed: _Below, levels: int) -> None:
        """Replace the dicts and lists in it by ones of whose changes ``changed`` hears."""
        for key, value in self.items():
            if type(value) in _NOTABLE:
                super().__setitem__(key, _noted(value, changed, levels))

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


@dataclass(frozen=True, slots=True, eq=False)
class _Below:
    """A listener to what is below a key of an entry: it changes the entry."""

    entry: NotedDict[Any, Any]
    key: Any

    def __call__(self, _: Any) -> None:
        self.entry._changed(self.key)

    def is_same(self, other: _Below) -> bool:
        return self.entry is other.entry and self.key is other.key


def _noted(value: Any, changed: _Below, levels: int) -> Any:
    """Return a dict or a list like this one of whose changes ``changed`` hears, and everything else as it is.

    One that it hears of already stays the same object: a program may hold it from one save to the next.
    """
    if not levels or type(value) not in _NOTABLE:
        return value
    if isinstance(value, _NOTED) and value.is_part_of(changed):
        value.note_items(changed, levels - 1)
        return value
    if isinstance(value, list):
        return NotedList((_noted(item, changed, levels - 1) for item in value), changed)
    return NotedDict({key: _noted(item, changed, levels - 1) for key, item in value.items()}, changed)


def noted_entry(place: int, entry: Any) -> Any:
    """Return a model use whose changes are noticed, however deep in its dicts and lists."""
    if not isinstance(entry, dict):
        return entry
    noted = entry if isinstance(entry, NotedDict) else NotedDict(entry)
    noted.note_nested()
    return noted


class NotedList(list[T]):
    """A list within a tracker's entry, whose changes are changes of the entry."""

    __slots__ = ("_listener",)

    def __init__(self, items: Iterable[T], changed: Callable[[Any], None]) -> None:
        """Take the items; ``changed`` hears of every later change."""
        super().__init__(items)
        self._listener = changed

    def is_part_of(self, changed: _Below) -> bool:
        """Whether ``changed`` hears of this list's changes already."""
        return isinstance(self._listener, _Below) and self._listener.is_same(changed)

    def note_items(self, changed: _Below, levels: int) -> None:
        """Replace the dicts and lists in it by ones of whose changes ``changed`` hears."""
        for place, item in enumerate(self):
            if type(item) in _NOTABLE:
                list.__setitem__(self, place, _noted(item, changed, levels))

    def __reduce__(self) -> tuple[Any, ...]:
        return _as_list(self)


def _noting(name: str) -> Callable[..., Any]:
    """Return a list's own method, after which the list tells of a change."""
    own = getattr(list, name)

    @wraps(own)
    def method(self: NotedList[Any], *given: Any, **named: Any) -> Any:
        result = own(self, *given, **named)
        self._listener(None)
        return result

    return method


for _name in (
    "__setitem__", "__delitem__", "__iadd__", "__imul__",
    "append", "extend", "insert", "pop", "remove", "clear", "sort", "reverse",
):  # fmt: skip
    setattr(NotedList, _name, _noting(_name))


# What is replaced by one that tells of its changes, or is one already.
_NOTED: Final = (NotedDict, NotedList)
_NOTABLE: Final[frozenset[type[Any]]] = frozenset({dict, list, *_NOTED})


def _as_list(items: list[Any]) -> tuple[Any, ...]:
    """Return what ``__reduce__`` of a list does, for a copy that is a plain one; it may contain itself."""
    return (list, (), None, iter(list(items)))


def plain(value: Any, made: dict[int, Any] | None = None) -> Any:
    """Return a tracker's entry as ordinary dicts and lists.

    Args:
        value: The entry.
        made: What was made of the parts that were seen on the way, by identity: an entry may contain itself.
    """
    if not isinstance(value, _NOTED):
        return value
    made = {} if made is None else made
    if id(value) in made:
        return made[id(value)]
    if isinstance(value, NotedDict):
        # In its place before it is full.
        entry = made[id(value)] = {}
        entry.update((key, plain(item, made)) for key, item in value.items())
        return entry
    items = made[id(value)] = []
    items.extend(plain(item, made) for item in value)
    return items


class TrackedDict(NotedDict[Any, Any]):
    """A dict of entries that knows which keys changed, and each saved key's position in the store."""

    __slots__ = ("_changes", "_handed_out", "_positions", "_put_again")

    def __init__(self, saved: Iterable[tuple[int, Any, Any]] = ()) -> None:
        """Take saved entries as (position, key, entry), in order."""
        super().__init__()
        self._listeners = (self._note,)
        self._changes: dict[Any, None] = {}
        self._handed_out: DictDifference | None = None
        # None: the store has the key, but it was taken out here and put in again, at the end.
        self._positions: dict[Any, int | None] = {}
        # The keys that came to the end of the dict since the last difference was handed out.
        self._put_again: set[Any] = set()
        for position, key, entry in saved:
            entry = self._wrap(key, entry)
            if isinstance(entry, NotedDict):
                entry.note_nested()
            dict.__setitem__(self, key, entry)
            self._positions[key] = position

    def replaced_by(self, items: Any) -> TrackedDict:
        """Return a new dict of ``items`` that takes over what is known; this one is tracked no more."""
        new = TrackedDict()
        for name in ("_changes", "_handed_out", "_positions", "_put_again"):
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
            return DictDifference([], keys, [], [])
        present = [key for key in keys if key in self]
        unplaced = [key for key in present if self._positions.get(key) is None]
        gone = [key for key in keys if key not in self and key in self._positions]
        changes = [(key, plain(self[key]), self._positions.get(key), False) for key in present]
        return DictDifference(changes + [(key, None, None, True) for key in gone], keys, unplaced, gone)

    def hand_out(self) -> DictDifference:
        """Return what is unsaved, and take the present state as the one that `confirm` will confirm.

        Raises:
            SaveOrderError: What was handed out before is neither confirmed nor abandoned.
        """
        if self._handed_out is not None:
            raise SaveOrderError()
        for key in self._changes:
            entry = self.get(key)
            if isinstance(entry, NotedDict):
                entry.note_nested()
        self._handed_out = self.difference()
        self._changes, self._put_again = {}, set()
        return self._handed_out

    def confirm(self, difference: DictDifference, first_position: int) -> None:
        """The difference is saved: its new keys have positions from ``first_position`` on."""
        if difference is not self._handed_out:
            raise SaveOrderError()
        for key in difference.gone:
            del self._positions[key]
        for position, key in enumerate(difference.unplaced, first_position):
            self._positions[key] = None if key in self._put_again else position
        self._handed_out = None

    def abandon(self, difference: DictDifference) -> None:
        """The difference was not saved: it stays unsaved."""
        if difference is not self._handed_out:
            raise SaveOrderError()
        # A key that came to the end meanwhile stands where it is now.
        self._changes = {key: None for key in difference.keys if key not in self._put_again} | self._changes
        self._handed_out = None

    def __setitem__(self, key: Any, value: Any) -> None:
        if key not in self:
            # It goes to the end, here and in the store.
            self._changes.pop(key, None)
            self._put_again.add(key)
            if key in self._positions:
                self._positions[key] = None
        super().__setitem__(key, self._wrap(key, value))

    def _note(self, key: Any) -> None:
        self._changes[key] = None

    def _wrap(self, key: Any, entry: Any) -> Any:
        if not isinstance(entry, dict):
            return entry
        noted: NotedDict[Any, Any] = NotedDict(entry, lambda _: self._note(key))
        return noted
