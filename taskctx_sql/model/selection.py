"""Which state of a context is loaded, and how much of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.limits import check_number

Y = TypeVar("Y")
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Selection:
    """What `Store.load` is asked for.

    Attributes:
        history_limit: At most so many updates, the newest.
        revision: The state in this revision.
        at: The state at this time, seconds since the epoch, UTC.
        max_chars: At most so many characters of data, as JSON text; the newest updates that fit.
        types: Only updates of these types, and of ``keep_types``.
        keep_types: Updates of these types come in any case, however old, and are paid for first.

    Raises:
        InvalidArgumentError: A value is not what it must be, or two contradict each other.
    """

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
            # A string is a sequence of strings, too, and never what was meant.
            if names is not None and not _are_strings(names):
                raise InvalidArgumentError(name, names, "a list of update types")
            if names is not None:
                object.__setattr__(self, name, tuple(names))

    @property
    def is_past(self) -> bool:
        """Whether an earlier state is asked for."""
        return self.revision is not None or self.at is not None

    @property
    def chooses(self) -> bool:
        """Whether updates are chosen one by one, and not by their number alone."""
        return self.max_chars is not None or self.types is not None or bool(self.keep_types)


def _are_strings(names: object) -> bool:
    return isinstance(names, Collection) and not isinstance(names, str) and all(isinstance(item, str) for item in names)


class UpdateSize(NamedTuple):
    """What is known of an update before it is read: its seq, the characters of its data, and its group or None."""

    seq: int
    chars: int
    group: str | None


class Window(NamedTuple):
    """The heads with ``low <= seq < high`` are asked for, oldest first."""

    low: int
    high: int


class Members(NamedTuple):
    """The heads of a group are asked for, in any order."""

    group: str


class Kept(NamedTuple):
    """The heads of the types that come in any case are asked for, in any order."""


class Chosen(NamedTuple):
    """The seqs of the updates that were chosen, in order, and whether older ones exist."""

    seqs: list[int]
    earlier: bool


Ask = Window | Members | Kept
# Reads the heads that are asked for, in steps of whatever kind.
Read = Callable[[Ask], Generator[Y, S, Sequence[UpdateSize]]]

# How many heads are looked at first; each time there are not enough, four times as many.
FIRST_WINDOW = 200
LARGEST_WINDOW = 20_000


def choose(selection: Selection, next_seq: int, read: Read[Y, S]) -> Generator[Y, S, Chosen]:
    """Choose the newest updates that fit, in the steps of the reading.

    Updates of one group come together or not at all, in the place of the newest of them. The first that does not fit
    is the last that is looked at.

    Args:
        selection: What is asked for; heads are of its types alone.
        next_seq: Beyond the newest update.
        read: Where heads come from.
    """
    budget = _Budget(selection.max_chars, selection.history_limit)
    if selection.keep_types:
        for head in (yield from read(Kept())):
            if head.seq not in budget.taken:
                budget.pay((yield from _together(head, read)))
    low, high, size = next_seq, next_seq, FIRST_WINDOW
    while low > 1:
        low, high, size = max(1, low - size), low, min(size * 4, LARGEST_WINDOW)
        for head in reversed((yield from read(Window(low, high)))):
            if head.seq in budget.taken:
                continue
            unit = yield from _together(head, read)
            if not budget.fits(unit):
                return Chosen(sorted(budget.taken), True)
            budget.pay(unit)
    return Chosen(sorted(budget.taken), selection.types is not None)


def choose_from(selection: Selection, heads: Sequence[tuple[UpdateSize, Any]]) -> Chosen:
    """Choose from heads that are all at hand, each with its update's type, which may be anything."""
    allowed = None if selection.types is None else {*selection.types, *selection.keep_types}
    wanted = [(head, kind) for head, kind in heads if allowed is None or (isinstance(kind, str) and kind in allowed)]

    def read(ask: Ask) -> Generator[None, None, Sequence[UpdateSize]]:
        # A generator without steps: nothing has to be waited for.
        yield from ()
        match ask:
            case Window(low, high):
                return [head for head, _ in wanted if low <= head.seq < high]
            case Members(group):
                return [head for head, _ in wanted if head.group == group]
            case Kept():
                return [head for head, kind in wanted if kind in selection.keep_types]

    choosing = choose(selection, heads[-1][0].seq + 1 if heads else 1, read)
    try:
        next(choosing)
    except StopIteration as end:
        chosen: Chosen = end.value
    return chosen


def _together(head: UpdateSize, read: Read[Y, S]) -> Generator[Y, S, Sequence[UpdateSize]]:
    if head.group is None:
        return [head]
    return (yield from read(Members(head.group)))


class _Budget:
    """What may still be taken, and what was."""

    def __init__(self, chars: int | None, count: int | None) -> None:
        self._chars: float = math.inf if chars is None else chars
        self._count: float = math.inf if count is None else count
        self.taken: set[int] = set()

    def fits(self, unit: Iterable[UpdateSize]) -> bool:
        heads = list(unit)
        return sum(head.chars for head in heads) <= self._chars and len(heads) <= self._count

    def pay(self, unit: Iterable[UpdateSize]) -> None:
        for head in unit:
            self.taken.add(head.seq)
            self._chars -= head.chars
            self._count -= 1
