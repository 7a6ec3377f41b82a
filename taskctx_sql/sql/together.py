"""The short ways past SQLAlchemy, for saves and reads: what both engines have in common."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, Generic, Protocol, TypeVar

from taskctx_sql.records import Saved
from taskctx_sql.sql.jobs import Job
from taskctx_sql.sql.retrying import deadline
from taskctx_sql.sql.steps import Steps
from taskctx_sql.store import until_done

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


class Reader(Protocol):
    """A short way for reads. One that is cancelled is given up at once, and leaves nothing behind."""

    async def read(self, steps: Steps[T], named: str | None) -> T:
        """Carry out steps that only read, and return what they return.

        Args:
            steps: What to read.
            named: The user that the transaction is to name; None where nobody has to be named.

        Raises:
            Exception: What the driver raised.
            TaskContextError: What the steps raise.
        """

    async def close(self) -> None:
        """Give everything back, when what was asked is read."""

    def abandon(self) -> None:
        """Let it end by itself: for a store that nobody closed. Callable from anywhere."""


class Answer(Generic[T]):
    """What somebody else will say, and one waits for."""

    __slots__ = ("_future", "_given", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Belong to a loop."""
        self._loop = loop
        self._future: asyncio.Future[T] = loop.create_future()
        self._given = False

    async def wait(self, *, to_the_end: bool = True) -> T:
        """Wait for it. A cancellation goes on when it was given: what it is the answer to, is under way.

        Args:
            to_the_end: Whether it matters what comes of it.
        """
        try:
            return await self._future
        except asyncio.CancelledError:
            if to_the_end and not self._given:
                # The cancellation took the future with it.
                self._future = self._loop.create_future()
                await until_done(self._future)
                # Seen here, so that a failure is not reported as forgotten: the cancellation is what the caller gets.
                self._future.exception()
            raise

    def give(self, answer: T | BaseException) -> None:
        """Give it, once, on the loop."""
        self._given = True
        if self._future.done():
            # Cancelled a moment ago; its waiter has not run since, and will see that it need not wait.
            return
        if isinstance(answer, BaseException):
            self._future.set_exception(answer)
        else:
            self._future.set_result(answer)


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
