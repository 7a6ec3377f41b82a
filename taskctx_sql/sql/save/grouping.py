"""The short ways past SQLAlchemy, for saves: what both engines have in common."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Protocol, TypeVar

from taskctx_sql.concurrency import Answer
from taskctx_sql.model import Saved
from taskctx_sql.sql.retry import deadline
from taskctx_sql.sql.save.request import Job

T = TypeVar("T")

# How many saves may wait; more wait for room, so that memory stays bounded.
MAX_WAITING: Final = 1_000
# How many share a transaction. Past a few dozen the fsync is paid for, another process wants its turn, and those who
# wait fall into two groups: the loop prepares the saves of one while the other is on its way to the disk.
MAX_TOGETHER: Final = 32


class Writer(Protocol):
    """A short way for saves. What is under way it finishes, whoever is cancelled."""

    async def save(self, job: Job) -> Saved:
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


class Pending(Answer[T]):
    """The answer to a save that was accepted."""

    __slots__ = ("deadline", "job")

    def __init__(self, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        """Take the save."""
        super().__init__(loop)
        self.job = job
        self.deadline = deadline()


def take_together(waiting: deque[Pending[T]]) -> list[Pending[T]]:
    """Take the first save of each context out of those that wait; the others of a context stay, in their order."""
    taken: dict[str, Pending[T]] = {}
    left: deque[Pending[T]] = deque()
    while waiting and len(taken) < MAX_TOGETHER:
        pending = waiting.popleft()
        if pending.job.encoded.context_id in taken:
            left.append(pending)
        else:
            taken[pending.job.encoded.context_id] = pending
    waiting.extendleft(reversed(left))
    return list(taken.values())
