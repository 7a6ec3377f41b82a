"""Cancellation that waits: work is completed or ended in order before the caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from taskctx_sql.errors import AsyncioNeededError

T = TypeVar("T")


def running_loop(doing: str) -> asyncio.AbstractEventLoop:
    """Return the running event loop, or raise AsyncioNeededError, as under trio."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise AsyncioNeededError(doing) from None


def is_running(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this is the running event loop."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


async def shielded(work: Awaitable[T], *, cancel: bool = False) -> T:
    """Await work to its end, even if the caller is cancelled meanwhile; the cancellation takes effect then.

    With ``cancel``, the work is cancelled too, and awaited until it has cleaned up.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if cancel:
            task.cancel()
        await wait_until_done(task)
        if not task.cancelled():
            # Retrieved, so that asyncio does not report the failure as never retrieved.
            task.exception()
        raise


async def wait_until_done(future: asyncio.Future[Any]) -> None:
    """Wait until a future is done, even if the caller is cancelled. Its result is not retrieved."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
