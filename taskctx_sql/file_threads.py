"""Work on files, on a thread: what was begun is finished, and a lock that others hold is not waited for in vain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from taskctx_sql.daemon_threads import on_thread
from taskctx_sql.folders import Patience
from taskctx_sql.store import running_loop, until_done

T = TypeVar("T")


async def in_thread(doing: str, work: Callable[[Patience], T], seconds: float) -> T:
    """Do something on a thread, which waits for a folder's lock for so many seconds, or until the caller is cancelled.

    A cancelled caller goes on when the work has ended.

    Raises:
        AsyncioNeededError: No asyncio event loop runs.
    """
    running_loop(doing)
    patience = Patience(seconds)
    task = asyncio.ensure_future(on_thread(work, patience))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        patience.give_up()
        await until_done(task)
        if not task.cancelled():
            # Seen here, so that a failure is not reported as forgotten: the cancellation is what the caller gets.
            task.exception()
        raise
