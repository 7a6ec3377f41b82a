"""The short ways past SQLAlchemy, for saves: what both engines have in common."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol, TypeVar

from taskctx_sql.concurrency import Answer
from taskctx_sql.model import Saved
from taskctx_sql.sql.retry import deadline
from taskctx_sql.sql.save.request import SaveRequest

T = TypeVar("T")

# How many saves may wait; more wait for room, so that memory stays bounded.
MAX_WAITING: Final = 1_000
# How many share a transaction. Past a few dozen the fsync is paid for, another process wants its turn, and those who
# wait fall into two groups: the loop prepares the saves of one while the other is on its way to the disk.
MAX_GROUP: Final = 32


class Writer(Protocol):
    """A short way for saves. What is under way it finishes, whoever is cancelled."""

    async def save(self, request: SaveRequest) -> Saved:
        """Save, together with whatever else is waiting; return when it is on the disk.

        Raises:
            InDoubtError: COMMIT failed in a way that leaves open if it happened.
            Exception: What the driver raised; nothing of this save was written.
            TaskContextError: As `saving.save`.
        """

    async def close(self) -> None:
        """Finish what was accepted, and give everything back."""

    def abandon(self) -> None:
        """Let it end by itself: for a store that nobody closed. Callable from anywhere."""


class WaitingSave(Answer[T]):
    """The answer to a save that was accepted."""

    __slots__ = ("deadline", "request")

    def __init__(self, request: SaveRequest, loop: asyncio.AbstractEventLoop) -> None:
        """Take the save."""
        super().__init__(loop)
        self.request = request
        self.deadline = deadline()


def take_group(waiting: deque[WaitingSave[T]]) -> list[WaitingSave[T]]:
    """Take the first save of each context out of those that wait; the others of a context stay, in their order."""
    taken: dict[str, WaitingSave[T]] = {}
    left: deque[WaitingSave[T]] = deque()
    while waiting and len(taken) < MAX_GROUP:
        pending = waiting.popleft()
        if pending.request.encoded.context_id in taken:
            left.append(pending)
        else:
            taken[pending.request.encoded.context_id] = pending
    waiting.extendleft(reversed(left))
    return list(taken.values())
