"""An answer that another task or thread will give."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

from taskctx_sql.concurrency.shielding import wait_until_done

T = TypeVar("T")


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
                await wait_until_done(self._future)
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
