"""A list that knows what changed since it was last saved, at a cost that follows the change."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from types import MappingProxyType
from typing import Any, Final, Generic, NamedTuple, TypeVar

from taskctx_sql.context.observable import as_list
from taskctx_sql.model import watch_all

T = TypeVar("T")


@dataclass(slots=True)
class _Snapshot(Generic[T]):
    """A state of a list: its first ``count`` items, or ``rows`` once the list was reordered."""

    count: int
    rows: list[T] | None = None


class ListDifference(NamedTuple, Generic[T]):
    """What a list needs to be saved.

    Attributes:
        appended: The items to append.
        removed: The seqs of the rows to remove.
        removed_items: What these rows held.
        kept: The indexes of the saved rows that stay, or None if all of them do.
        again: The seqs, by identity, of saved items that are appended again, because they were edited or follow a
            change.
        edited: The identities of those that were edited.
    """

    appended: list[T]
    removed: Sequence[int] = ()
    removed_items: Sequence[T] = ()
    kept: Sequence[int] | None = None
    again: Mapping[int, int] = MappingProxyType({})
    edited: Collection[int] = ()


# What a list hands out that has not changed; nobody changes it.
UNCHANGED: Final[ListDifference[Any]] = ListDifference([])


class TrackedList(list[T]):
    """A list that knows its appends in O(1), and detects other changes.

    The rows of a store have rising seqs, and new rows follow them. So the saved rows that still stand in their order at
    the head of the list are kept, and everything after them is written anew.

    `hand_out` returns the difference, and `confirm` or `abandon` must follow: the difference is saved, or stays
    unsaved. Changes in between belong to the next one.
    """

    __slots__ = ("_edited", "_edited_before", "_handed_out", "_pending", "_prepare", "_saved", "_seqs", "_stand_ins")

    def __init__(
        self,
        items: Iterable[T] = (),
        seqs: Iterable[int] = (),
        edits: dict[int, T] | None = None,
        *,
        prepare: Callable[[int, Sequence[Any]], list[T]] | None = None,
    ) -> None:
        """Start with ``items``, of which the first ones are saved already, under ``seqs``.

        ``edits`` is where the saved ones note their edits already, if they do. ``prepare`` is called with the index of
        the first item and the items when they are handed out, and returns what replaces them.
        """
        super().__init__(items)
        self._seqs = array("q", seqs)
        self._saved: _Snapshot[T] = _Snapshot(len(self._seqs))
        self._pending: _Snapshot[T] | None = None
        self._handed_out: ListDifference[T] | None = None
        self._prepare = prepare
        self._edited: dict[int, T] = {} if edits is None else edits
        self._edited_before: dict[int, T] = {}
        self._stand_ins: Mapping[int, int] = {}
        if edits is None:
            watch_all(self[: len(self._seqs)], self._edited)

    def replaced_by(self, items: Iterable[T], stand_ins: Mapping[int, int] | None = None) -> TrackedList[T]:
        """Return a new list of ``items`` that takes over this one's state; this one is not tracked any more.

        ``stand_ins`` are the seqs of saved rows that an edited item replaces, by the item's identity.
        """
        self.keep_rows()
        new: TrackedList[T] = TrackedList(items)
        for name in self.__slots__:
            setattr(new, name, getattr(self, name))
        if stand_ins is not None:
            new._stand_ins = stand_ins
        self._saved, self._pending, self._handed_out, self._seqs = _Snapshot(0, []), None, None, array("q")
        return new

    def with_rows(self, rows: dict[int, T]) -> TrackedList[T]:
        """Return a new list whose saved rows are these, by seq."""
        new = TrackedList(rows.values(), rows, self._edited, prepare=self._prepare)
        watch_all(new, self._edited)
        return new

    @property
    def has_changes(self) -> bool:
        """Whether there is a difference. May say True after changes that cancel each other out."""
        return self._saved.rows is not None or bool(self._edited) or len(self) != self._saved.count

    @property
    def unsaved_count(self) -> int:
        """The least number of items that would be handed out."""
        return len(self) - self._saved.count if self._saved.rows is None else 0

    @property
    def seqs(self) -> Sequence[int]:
        """The seqs of the saved rows, in order."""
        return self._seqs

    @property
    def saved(self) -> dict[int, T]:
        """The items that the store has, by seq, even those that left the list."""
        rows = self[: self._saved.count] if self._saved.rows is None else self._saved.rows
        return dict(zip(self._seqs, rows, strict=True))

    def difference(self) -> ListDifference[T]:
        """Return what is unsaved, and change nothing."""
        rows, edited = self._saved.rows, self._edited_before | self._edited if self._edited else self._edited_before
        if rows is None and not edited:
            return ListDifference(self[self._saved.count :])
        rows = self[: self._saved.count] if rows is None else rows
        kept: list[int] = []
        index = 0
        for item in self:
            if id(item) in edited:
                break
            while index < len(rows) and rows[index] is not item:
                index += 1
            if index == len(rows):
                break
            kept.append(index)
            index += 1
        gone = sorted(set(range(len(rows))).difference(kept))
        appended = self[len(kept) :]
        present = set(map(id, appended))
        again = {id(rows[index]): self._seqs[index] for index in gone if id(rows[index]) in present}
        stand_ins = {item: seq for item, seq in self._stand_ins.items() if item in present}
        removed = [self._seqs[index] for index in gone]
        changed = edited.keys() & again.keys() | stand_ins.keys()
        return ListDifference(appended, removed, [rows[index] for index in gone], kept, again | stand_ins, changed)

    def hand_out(self) -> ListDifference[T]:
        """Return what is unsaved, or `UNCHANGED`; `confirm` makes this state the saved one."""
        if not self.has_changes:
            self._pending, self._handed_out = self._saved, UNCHANGED
            return UNCHANGED
        difference = self.difference()
        appended = difference.appended
        if appended and self._prepare is not None:
            first = len(self) - len(appended)
            appended[:] = self._prepare(first, appended)
            super().__setitem__(slice(first, first + len(appended)), appended)
        if self._edited:
            # The watched items hold the log itself, so it is emptied in place.
            self._edited_before = dict(self._edited)
            self._edited.clear()
        self._pending, self._handed_out = _Snapshot(len(self)), difference
        if appended:
            watch_all(appended, self._edited)
        return difference

    def confirm(self, first_seq: int) -> None:
        """Take what was handed out as saved; its appended items have seqs from ``first_seq`` on."""
        pending, difference = self._pending, self._handed_out
        assert pending is not None
        assert difference is not None
        if difference.kept is not None:
            self._seqs = array("q", (self._seqs[index] for index in difference.kept))
        if difference.appended:
            self._seqs.extend(range(first_seq, first_seq + len(difference.appended)))
        self._saved, self._pending, self._handed_out = pending, None, None
        self._edited_before, self._stand_ins = {}, {}

    def abandon(self) -> None:
        """Take what was handed out as unsaved again."""
        self._edited.update(self._edited_before)
        self._pending, self._handed_out, self._edited_before = None, None, {}

    def unwatch(self, items: Iterable[Any]) -> None:
        """Stop noting edits of these items, which are in another list now."""
        for item in items:
            if hasattr(item, "unwatch"):
                item.unwatch(self._edited)

    def keep_rows(self) -> None:
        """Give the snapshots rows of their own, before the list is reordered."""
        for snapshot in (self._saved, self._pending):
            if snapshot is not None and snapshot.rows is None:
                snapshot.rows = self[: snapshot.count]

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy is a plain list: only this one knows what was saved.
        return as_list(self)


def _keeping_rows(name: str) -> Callable[..., Any]:
    """Return a method of list that keeps the rows first."""
    own = getattr(list, name)

    @wraps(own)
    def method(self: TrackedList[Any], *args: Any, **kwargs: Any) -> Any:
        self.keep_rows()
        return own(self, *args, **kwargs)

    return method


# What reorders or removes items; appending (append, extend, +=) is left to list.
for _name in ("__setitem__", "__delitem__", "__imul__", "insert", "pop", "remove", "clear", "sort", "reverse"):
    setattr(TrackedList, _name, _keeping_rows(_name))
