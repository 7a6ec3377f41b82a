"""Calls from sync code, and from other event loops than the one that the store was opened in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

from taskctx_sql import blocking

T = TypeVar("T")


class Home:
    """The event loop that the store was opened in: the running one, or that of plain `with`, if none runs."""

    def __init__(self) -> None:
        self._loop = _running() or blocking(_current())

    async def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work in the store's loop, and wait for it in the one that runs."""
        if _running() is self._loop:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def iterate(self, work: AsyncIterator[T]) -> AsyncIterator[T]:
        """Yield what the iterator yields in the store's loop."""
        end = object()
        try:
            while (item := await self.wait(_next(work, end))) is not end:
                yield item  # type: ignore[misc]  # the end is told apart by identity
        finally:
            await self.wait(_close(work))

    def block(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work in the store's loop, while the thread that calls waits.

        Raises:
            InvalidStateError: It was called in that loop, which would wait for itself.
        """
        if _running() is self._loop:
            work.close()
            # What the framework's own savers and stores raise.
            raise asyncio.InvalidStateError(
                "this was called in the event loop of the store, which would wait for itself: "
                "await the method whose name begins with `a`, or call it in a thread"
            )
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            # An interruption, such as Ctrl-C: the work is cancelled, and completes or rolls back.
            future.cancel()
            raise

    def iterate_blocking(self, work: AsyncIterator[T]) -> Iterator[T]:
        """Yield what the iterator yields in the store's loop, while the thread that calls waits."""
        end = object()
        try:
            while (item := self.block(_next(work, end))) is not end:
                yield item  # type: ignore[misc]  # the end is told apart by identity
        finally:
            self.block(_close(work))


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


async def _current() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def _next(work: AsyncIterator[T], end: object) -> T | object:
    return await anext(work, end)


async def _close(work: AsyncIterator[Any]) -> None:
    close = getattr(work, "aclose", None)
    if close is not None:
        await close()
