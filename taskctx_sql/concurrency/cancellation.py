"""Cancellation that waits: work is completed or ended in order before the caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

from taskctx_sql.errors import AsyncioNeededError

T = TypeVar("T")

# How long a caller that was cancelled waits for a write that is under way: longer than any takes while the database
# answers, and short enough for a timeout to take effect when it does not.
CANCEL_SECONDS: Final = 2.0


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


async def finished(work: Awaitable[T], left: set[asyncio.Future[Any]] | None = None) -> T:
    """Await work, and after a cancellation of the caller `CANCEL_SECONDS` more; the cancellation takes effect then.

    Work that is not done by then is cancelled, and awaited until it has cleaned up. With ``left`` it goes on without
    the caller, and is in there until it is done.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await wait_until_done(task, CANCEL_SECONDS)
        if left is not None and not task.done():
            left.add(task)
            task.add_done_callback(left.discard)
        elif not task.done():
            task.cancel()
            await wait_until_done(task)
        task.add_done_callback(_retrieve)
        raise


def _retrieve(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        # Retrieved, so that asyncio does not report the failure as never retrieved.
        task.exception()


async def wait_until_done(future: asyncio.Future[Any], seconds: float | None = None) -> None:
    """Wait until a future is done, or so many seconds, even if the caller is cancelled. It is not retrieved."""
    loop = asyncio.get_running_loop()
    until = None if seconds is None else loop.time() + seconds
    while not future.done():
        left = None if until is None else until - loop.time()
        if left is not None and left <= 0:
            return
        try:
            await asyncio.wait([future], timeout=left)
        except asyncio.CancelledError:
            continue
