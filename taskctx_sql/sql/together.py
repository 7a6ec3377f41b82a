"""Saves that wait to be written together: what the writers of both engines have in common."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from taskctx_sql.records import Saved
from taskctx_sql.sql.saving import Job
from taskctx_sql.store import until_done

# How many saves may wait; more wait for room, so that memory stays bounded.
MAX_WAITING: Final = 1_000
# How many share a transaction. Past a few dozen the fsync is paid for; another process wants its turn.
MAX_TOGETHER: Final = 100


class Pending:
    """A save that was accepted, and whoever waits for its answer."""

    __slots__ = ("_answer", "_answered", "job")

    def __init__(self, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        """Take a job. Somebody else will `answer`."""
        self.job = job
        self._answer: asyncio.Future[Saved | None] = loop.create_future()
        self._answered = False

    async def outcome(self) -> Saved | None:
        """Wait for the answer. A cancellation goes on when the answer is there: the save is under way."""
        try:
            return await self._answer
        except asyncio.CancelledError:
            if not self._answered:
                # The cancellation took the future with it.
                self._answer = self._answer.get_loop().create_future()
                await until_done(self._answer)
                # Seen here, so that a failure is not reported as forgotten: the cancellation is what the caller gets.
                self._answer.exception()
            raise

    def answer(self, answer: Saved | BaseException | None) -> None:
        """Say what came of it, once, on the loop."""
        self._answered = True
        if self._answer.done():
            # Cancelled a moment ago; its waiter has not run since, and will see that it need not wait.
            return
        if isinstance(answer, BaseException):
            self._answer.set_exception(answer)
        else:
            self._answer.set_result(answer)


def take_together(waiting: deque[Pending]) -> list[Pending]:
    """Take the first save of each context out of those that wait; the others of a context stay, in their order."""
    taken: dict[str, Pending] = {}
    left: deque[Pending] = deque()
    while waiting and len(taken) < MAX_TOGETHER:
        pending = waiting.popleft()
        if pending.job.encoded.context_id in taken:
            left.append(pending)
        else:
            taken[pending.job.encoded.context_id] = pending
    waiting.extendleft(reversed(left))
    return list(taken.values())
