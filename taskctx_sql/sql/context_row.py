"""The parts of a context's row that saves and loads pass on."""

from __future__ import annotations

from typing import Final, NamedTuple


class Base(NamedTuple):
    """What a context in memory has seen of its row, if there was one: the revision that memory agrees with.

    A row whose revision is lower than ``newest``, the newest one known, was set back to an older state. ``numbers`` are
    those that the next update, model use and file get in that revision, where they are known.
    """

    created_at: float | None
    revision: int
    newest: int = 0
    numbers: tuple[int, int, int] | None = None


UNSEEN: Final = Base(None, 0)


class ContextHead(NamedTuple):
    """A context's row: its revision, and the numbers that its next rows get."""

    created_at: float
    revision: int = 0
    next_seq: int = 1
    next_model: int = 1
    next_position: int = 1
