"""What a context's row says."""

from __future__ import annotations

from typing import Final, NamedTuple


class Base(NamedTuple):
    """What a context has seen of its row.

    Attributes:
        created_at: When it was made; None: it was not there.
        revision: The revision that memory agrees with.
        newest: The newest one that it knows of: a row that has not come so far was set back.
    """

    created_at: float | None
    revision: int
    newest: int = 0


UNSEEN: Final = Base(None, 0)


class ContextHead(NamedTuple):
    """A context's row: where it stands, and what comes next."""

    created_at: float
    revision: int = 0
    next_seq: int = 1
    next_model: int = 1
    next_position: int = 1
