"""Working on files on a thread: work that began is finished, and a thread never waits long for a folder's lock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final, TypeVar

from taskctx_sql.concurrency import on_thread, running_loop, wait_until_done
from taskctx_sql.locations import Patience, StillHeldError

T = TypeVar("T")

# How long a thread waits for a lock that somebody else holds. A process has few threads, and work that needs no lock
# must not wait for work that does.
_ON_THREAD: Final = 0.02
# After that, the seconds between attempts.
_PAUSE: Final = 0.03


def lock_patience(seconds: float) -> Patience:
    """Return the patience for waiting so many seconds for a lock, hardly any of them on a thread."""
    return Patience(seconds, on_thread=_ON_THREAD)


async def run_in_thread(doing: str, work: Callable[[Patience], T], patience: Patience, *, reads: bool = False) -> T:
    """Run work on a thread. It waits for a folder's lock while its patience lasts, or until the caller is cancelled.

    While others hold the lock, the work is started again. A cancelled caller of work that only reads returns at once;
    otherwise it returns when the work has ended. Errors call it ``doing``.
    """
    running_loop(doing)
    task = asyncio.ensure_future(_until_locked(work, patience))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        patience.give_up()
        if reads:
            task.cancel()
        await wait_until_done(task)
        if not task.cancelled():
            # The caller gets the cancellation; this keeps asyncio from reporting an unretrieved failure.
            task.exception()
        raise


async def _until_locked(work: Callable[[Patience], T], patience: Patience) -> T:
    while True:
        try:
            return await on_thread(work, patience)
        except StillHeldError:
            await asyncio.sleep(random.uniform(0.5, 1) * _PAUSE)
