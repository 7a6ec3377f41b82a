"""Work that a cancellation does not tear: it is finished or ended, and then the cancellation goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from taskctx_sql.errors import AsyncioNeededError

T = TypeVar("T")


def running_loop(doing: str) -> asyncio.AbstractEventLoop:
    """Return the event loop that runs here.

    Raises:
        AsyncioNeededError: None does, as under trio.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise AsyncioNeededError(doing) from None


async def shielded(work: Awaitable[T]) -> T:
    """Do the work to its end, even if the caller is cancelled meanwhile; then let the cancellation go on."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await wait_until_done(task)
        if not task.cancelled():
            # Seen here, so that a failure is not reported as forgotten: the cancellation is what the caller gets.
            task.exception()
        raise


async def end_at_once(work: Awaitable[T]) -> T:
    """Do the work; if the caller is cancelled, end it, and wait until it has cleaned up, even if cancelled again."""
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
    """Wait until it is done, whoever cancels the waiting. What came of it is not looked at."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
