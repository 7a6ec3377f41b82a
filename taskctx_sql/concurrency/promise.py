"""A result that another task or thread delivers."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, Generic, TypeVar

from taskctx_sql.concurrency.cancellation import CANCEL_SECONDS, wait_until_done

T = TypeVar("T")


class Promise(Generic[T]):
    """A result that one task waits for and another delivers."""

    __slots__ = ("_future", "_loop", "_resolved")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[T] = loop.create_future()
        self._resolved = False

    def __await__(self) -> Generator[Any, None, T]:
        return self.wait().__await__()

    async def wait(self, *, shield: bool = True) -> T:
        """Wait for the result. With ``shield``, a cancellation takes effect when the result was delivered.

        One that is not delivered within `CANCEL_SECONDS` after a cancellation is not waited for any more.
        """
        try:
            return await self._future
        except asyncio.CancelledError:
            if shield and not self._resolved:
                # The cancellation cancelled the future, too.
                self._future = self._loop.create_future()
                await wait_until_done(self._future, CANCEL_SECONDS)
                if self._future.done():
                    # Retrieved, so that asyncio does not report the failure as never retrieved.
                    self._future.exception()
                else:
                    self._future.cancel()
            raise

    def resolve(self, result: T | BaseException) -> None:
        """Deliver the result, once, on the loop."""
        self._resolved = True
        if self._future.done():
            # Cancelled a moment ago: the waiting task has not run since, and will not wait again.
            return
        if isinstance(result, BaseException):
            self._future.set_exception(result)
        else:
            self._future.set_result(result)
