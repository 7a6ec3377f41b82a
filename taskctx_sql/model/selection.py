"""Which state of a context to load, and how much of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.limits import check_number

Y = TypeVar("Y")
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Selection:
    """The arguments of `ContextStore.load`, checked."""

    history_limit: int | None = None
    revision: int | None = None
    at: float | None = None
    max_chars: int | None = None
    types: Sequence[str] | None = None
    keep_types: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, least in (("history_limit", 0), ("max_chars", 0), ("revision", 1)):
            check_number(name, getattr(self, name), least, optional=True)
        at = self.at
        if at is not None and (isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at)):
            raise InvalidArgumentError("at", at, "None or a time in seconds since the epoch")
        if at is not None and self.revision is not None:
            raise InvalidArgumentError("at", at, "None when a revision is given")
        for name in ("types", "keep_types"):
            names = getattr(self, name)
            if names is not None:
                check_types(name, names)
                object.__setattr__(self, name, tuple(names))

    @property
    def is_past(self) -> bool:
        """Whether an earlier state is requested."""
        return self.revision is not None or self.at is not None

    @property
    def chooses(self) -> bool:
        """Whether updates are selected by more than their number."""
        return self.max_chars is not None or self.types is not None or bool(self.keep_types)


def check_types(argument: str, names: object) -> None:
    """Raise InvalidArgumentError if an argument is not a list of update types."""
    # A string is a sequence of strings, too, but not meant as one.
    is_list = isinstance(names, Collection) and not isinstance(names, str) and all(isinstance(n, str) for n in names)
    if not is_list:
        raise InvalidArgumentError(argument, names, "a list of update types")


class UpdateSize(NamedTuple):
    """An update's seq, the characters of its data, and its group or None."""

    seq: int
    chars: int
    group: str | None


class Window(NamedTuple):
    """A request for the sizes of updates with ``low <= seq < high``, oldest first."""

    low: int
    high: int


class Members(NamedTuple):
    """A request for the sizes of a group's updates, in any order."""

    group: str


class Kept(NamedTuple):
    """A request for the sizes of updates of the types to keep, in any order."""


class Chosen(NamedTuple):
    """The seqs of the selected updates, in order, and whether older ones exist."""

    seqs: list[int]
    earlier: bool


Ask = Window | Members | Kept
# Reads the requested sizes, as a generator that may yield anything.
Read = Callable[[Ask], Generator[Y, S, Sequence[UpdateSize]]]

# How many sizes are read first; while they are not enough, four times as many are read next.
FIRST_WINDOW = 200
LARGEST_WINDOW = 20_000


def choose(selection: Selection, next_seq: int, read: Read[Y, S]) -> Generator[Y, S, Chosen]:
    """Select the newest updates that fit; a generator that yields what ``read`` yields.

    Updates of one group are selected together or not at all, by the position of the newest of them. Selection ends at
    the first update that does not fit. ``read`` returns only sizes of updates of the selection's types.
    """
    limit = math.inf if selection.history_limit is None else selection.history_limit
    chars_left = math.inf if selection.max_chars is None else selection.max_chars
    chosen: set[int] = set()
    for update in (yield from read(Kept())) if selection.keep_types else ():
        if update.seq not in chosen:
            group = yield from _group_of(update, read)
            chars_left -= sum(member.chars for member in group)
            chosen.update(member.seq for member in group)
    low, high, size = next_seq, next_seq, FIRST_WINDOW
    while low > 1:
        low, high, size = max(1, low - size), low, min(size * 4, LARGEST_WINDOW)
        for update in reversed((yield from read(Window(low, high)))):
            if update.seq in chosen:
                continue
            group = yield from _group_of(update, read)
            chars_left -= sum(member.chars for member in group)
            if chars_left < 0 or len(chosen) + len(group) > limit:
                return Chosen(sorted(chosen), True)
            chosen.update(member.seq for member in group)
    return Chosen(sorted(chosen), selection.types is not None)


def choose_from(selection: Selection, sizes: Sequence[tuple[UpdateSize, Any]]) -> Chosen:
    """Select from sizes that are in memory, each with its update's type, which may be of any class."""
    allowed = None if selection.types is None else {*selection.types, *selection.keep_types}
    wanted = [
        (update, kind) for update, kind in sizes if allowed is None or (isinstance(kind, str) and kind in allowed)
    ]

    def read(ask: Ask) -> Generator[None, None, Sequence[UpdateSize]]:
        # A generator that yields nothing.
        yield from ()
        match ask:
            case Window(low, high):
                return [update for update, _ in wanted if low <= update.seq < high]
            case Members(group):
                return [update for update, _ in wanted if update.group == group]
            case Kept():
                return [update for update, kind in wanted if kind in selection.keep_types]

    choosing = choose(selection, sizes[-1][0].seq + 1 if sizes else 1, read)
    try:
        next(choosing)
    except StopIteration as end:
        chosen: Chosen = end.value
    return chosen


def _group_of(update: UpdateSize, read: Read[Y, S]) -> Generator[Y, S, Sequence[UpdateSize]]:
    return [update] if update.group is None else (yield from read(Members(update.group)))
