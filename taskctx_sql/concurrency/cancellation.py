"""Cancellation that waits: work is completed or ended in order before the caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from taskctx_sql.errors import AsyncioNeededError

T = TypeVar("T")


def running_loop(doing: str) -> asyncio.AbstractEventLoop:
    """Return the running event loop.

    Raises:
        AsyncioNeededError: There is none, as under trio.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise AsyncioNeededError(doing) from None


async def shielded(work: Awaitable[T]) -> T:
    """Await work to its end, even if the caller is cancelled meanwhile; the cancellation takes effect then."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await wait_until_done(task)
        if not task.cancelled():
            # Retrieved, so that asyncio does not report the failure as never retrieved.
            task.exception()
        raise


async def await_cleanup(work: Awaitable[T]) -> T:
    """Await work; if the caller is cancelled, cancel it and wait until it has cleaned up, even if cancelled again."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        await wait_until_done(task)
        if not task.cancelled():
            task.exception()
        raise


async def wait_until_done(future: asyncio.Future[Any]) -> None:
    """Wait until a future is done, even if the caller is cancelled. Its result is not retrieved."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
