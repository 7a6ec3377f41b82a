"""Work on files, on a thread: what was begun is finished, and a lock that others hold is not waited for in vain."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final, TypeVar

from taskctx_sql.concurrency import on_thread, running_loop, wait_until_done
from taskctx_sql.locations import Patience, StillHeldError

T = TypeVar("T")

# How long a thread is kept by a lock that somebody else holds. A process has few of them, and whatever needs no lock
# must not wait for those who do.
_ON_THREAD: Final = 0.02
# Then a lock is asked for this often, in seconds.
_PAUSE: Final = 0.03


def patience_of(seconds: float) -> Patience:
    """Return the patience of somebody who waits for a lock so many seconds, and hardly any of them on a thread."""
    return Patience(seconds, on_thread=_ON_THREAD)


async def in_thread(doing: str, work: Callable[[Patience], T], patience: Patience, *, reads: bool = False) -> T:
    """Do something on a thread, which waits for a folder's lock as long as it may, or until the caller is cancelled.

    Args:
        doing: What to call it in errors.
        work: What to do, and again from the beginning while the lock is held.
        patience: How long to wait for the lock.
        reads: Whether nothing matters of it if the caller is cancelled, who then goes on at once. Otherwise a cancelled
            caller goes on when the work has ended.

    Raises:
        AsyncioNeededError: No asyncio event loop runs.
    """
    running_loop(doing)
    task = asyncio.ensure_future(_again_and_again(work, patience))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        patience.give_up()
        if reads:
            task.cancel()
        await wait_until_done(task)
        if not task.cancelled():
            # Seen here, so that a failure is not reported as forgotten: the cancellation is what the caller gets.
            task.exception()
        raise


async def _again_and_again(work: Callable[[Patience], T], patience: Patience) -> T:
    while True:
        try:
            return await on_thread(work, patience)
        except StillHeldError:
            await asyncio.sleep(random.uniform(0.5, 1) * _PAUSE)
