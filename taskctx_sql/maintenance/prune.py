"""Removing permanently what a retention does not keep, once or periodically.

A database is pruned in batches, with a pause after each as long as the batch took, so that writers are not held up.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from taskctx_sql import clock
from taskctx_sql.concurrency import shielded
from taskctx_sql.errors import StoreClosedError, TaskContextError
from taskctx_sql.json_files import JsonStore, prune_folder
from taskctx_sql.limits import check_number, check_real
from taskctx_sql.model import ContextKey, Pruned, PruneProgress, Retention, check_interval
from taskctx_sql.stores import ContextStore

logger: logging.Logger = logging.getLogger(__name__)

# Rows of a batch: some milliseconds on either engine.
BATCH: Final = 1_000


async def prune(
    store: ContextStore,
    retention: Retention,
    *,
    user_id: str | None = None,
    dry_run: bool = False,
    now: float | None = None,
    batch: int = BATCH,
    progress: PruneProgress | None = None,
) -> Pruned:
    """Remove permanently what a retention does not keep.

    A context that somebody saves to before its turn is kept whole, and counted as in use. A program that still has a
    removed context in memory gets `LostContextError` at its next save.

    Args:
        store: An open database or folder of JSON files. Files have no users and no removed rows: there
            ``max_contexts`` counts all files, and a context's age is that of its file.
        retention: What to keep.
        user_id: Prune only this user's contexts.
        dry_run: Only count what would be removed.
        now: The current time in seconds since the epoch, UTC; the clock's by default.
        batch: How many rows one transaction removes.
        progress: Called with the number of contexts done.

    Raises:
        InvalidArgumentError: The batch is below 1, or ``now`` is not a number.
        InvalidDatabaseUrlError: The store is neither a database nor a folder of JSON files.
        StoreError: The store failed; pruning again continues.
    """
    started = time.monotonic()
    check_number("batch", batch, 1)
    at = clock.now() if now is None else now
    check_real("now", at, "seconds since the epoch")
    user_id = None if user_id is None else ContextKey(user_id, "").user_id
    pruned = Pruned(store.database_url, dry_run)
    if isinstance(store, JsonStore):
        await store.run_in_thread("prune", partial(prune_folder, store.folder, retention, at, pruned))
    else:
        from taskctx_sql.sql.maintenance import Pruner
        from taskctx_sql.sql.store import as_database

        await Pruner(as_database(store), pruned, batch, progress, user_id).prune(retention, at)
    pruned.seconds = time.monotonic() - started
    return pruned


@asynccontextmanager
async def prune_periodically(store: ContextStore, retention: Retention, *, interval: float) -> AsyncIterator[None]:
    """Prune a store in the background, at once and then every ``interval`` seconds, until the block ends.

    A failure is logged, and pruning is tried again at the next interval. At the end, a batch in progress is finished.

    Raises:
        InvalidArgumentError: The interval is not above 0.
    """
    check_interval("interval", interval)
    task = asyncio.create_task(_prune_forever(store, retention, interval), name="taskctx-prune")
    try:
        yield
    finally:
        task.cancel()
        await shielded(_ended(task))


async def _ended(task: asyncio.Task[None]) -> None:
    """Wait until a cancelled task has ended, and raise what it failed with, unless that is the cancellation."""
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def _prune_forever(store: ContextStore, retention: Retention, interval: float) -> None:
    while True:
        try:
            pruned = await prune(store, retention)
            logger.info("pruned %s: %s", store.database_url, pruned.rows)
        except StoreClosedError:
            return
        except (TaskContextError, OSError) as error:
            logger.error("could not prune %s, trying again in %s s: %s", store.database_url, interval, error)
        await asyncio.sleep(interval)
