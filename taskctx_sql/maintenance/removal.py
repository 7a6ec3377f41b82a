"""Keeping house: removing for good what is old, what is too much, what left the histories, or all of somebody.

A database is worked on in batches, with a pause after each as long as the batch took, so that writers get their turn.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from taskctx_sql.concurrency import shielded
from taskctx_sql.errors import InvalidRetentionError, StoreClosedError, StoreFailedError, TaskContextError
from taskctx_sql.json_files import JsonStore, erase_files, prune_folder
from taskctx_sql.limits import check_number, check_real
from taskctx_sql.locations import Patience
from taskctx_sql.model import ContextKey, Pruned, PruneProgress, Receipt, Retention, check_interval
from taskctx_sql.stores import Store

if TYPE_CHECKING:
    from taskctx_sql.sql.store import SqlStore

T = TypeVar("T")

logger = logging.getLogger(__name__)

# Rows of a batch: some milliseconds on either engine.
BATCH: Final = 1_000


async def prune(
    store: Store,
    retention: Retention,
    *,
    user_id: str | None = None,
    dry_run: bool = False,
    now: float | None = None,
    batch: int = BATCH,
    progress: PruneProgress | None = None,
) -> Pruned:
    """Remove for good what a retention does not keep.

    A context that somebody saves to before its turn comes stays whole, and is counted. Once it is gone, a program that
    still has it in memory gets `LostContextError` at its next save.

    Args:
        store: An open store. A folder of JSON files has no users and no removed rows: there contexts are counted
            together, and their age is that of the file.
        retention: What is to go.
        user_id: Only this user's.
        dry_run: Only count.
        now: What time it is, seconds since the epoch, UTC; the clock's time if not given.
        batch: How many rows go in a transaction.
        progress: Told how many contexts are done.

    Raises:
        StoreError: The store failed; what went before is gone, and pruning again goes on.
    """
    started = time.monotonic()
    check_number("batch", batch, 1)
    at = time.time() if now is None else now
    check_real("now", at, "seconds since the epoch")
    user_id = None if user_id is None else ContextKey(user_id, "").user_id
    pruned = Pruned(store.database_url, dry_run)
    if isinstance(store, JsonStore):
        await _in_folder(store, "prune", partial(prune_folder, store.folder, retention, at, pruned))
    else:
        from taskctx_sql.sql.maintenance import Pruning

        await Pruning(_database(store), pruned, batch, progress, user_id).all(retention, at)
    pruned.seconds = time.monotonic() - started
    return pruned


async def erase(store: Store, user_id: str, chat_id: str | None = None, *, batch: int = BATCH) -> Receipt:
    """Remove for good all of a user, or one of the user's contexts.

    A program that still has one of them in memory gets `LostContextError` at its next save.

    Args:
        store: An open store.
        user_id: Whose.
        chat_id: Which chat; all if not given.
        batch: How many rows go in a transaction.

    Raises:
        InvalidIdError: An id cannot be one.
        InvalidRetentionError: A folder of JSON files does not know whose files are whose: name the chat.
        StoreError: The store failed; what went before is gone, and erasing again goes on.
    """
    check_number("batch", batch, 1)
    key = ContextKey(user_id, "" if chat_id is None else chat_id)
    pruned = Pruned(store.database_url, dry_run=False)
    chats: list[str] = []
    if isinstance(store, JsonStore):
        if chat_id is None:
            raise InvalidRetentionError("the files of a folder do not say whose they are: name the chat")
        counts = await _in_folder(store, "erase", partial(erase_files, store.folder, key))
        if counts["files"]:
            chats.append(key.chat_id)
        pruned.add(counts)
    else:
        from taskctx_sql.sql.maintenance import Pruning

        pruning = Pruning(_database(store), pruned, batch, None, key.user_id)
        async for old in pruning.of_user(key, all_chats=chat_id is None):
            await pruning.erase(old, guarded=False)
            chats.append(old.chat_id)
    chat = None if chat_id is None else key.chat_id
    return Receipt(store.database_url, key.user_id, chat, tuple(chats), pruned.rows, time.time())


async def _in_folder(store: JsonStore, doing: str, work: Callable[[Patience], T]) -> T:
    try:
        return await store.run_in_thread(doing, work)
    except OSError as error:
        raise StoreFailedError(doing, store.database_url, str(error)) from error


@asynccontextmanager
async def keep_house(store: Store, retention: Retention, *, interval: float) -> AsyncIterator[None]:
    """Prune an open store in the background, at once and then every ``interval`` seconds, until the block ends.

    A failure is logged, and tried again at the next time. At the end a batch under way is finished.
    """
    check_interval(interval)
    job = asyncio.create_task(_again_and_again(store, retention, interval), name="taskctx-housekeeping")
    try:
        yield
    finally:
        job.cancel()
        await shielded(_ended(job))


async def _ended(job: asyncio.Task[None]) -> None:
    """Wait until a cancelled job is done; what it failed with, if that is not the cancellation, is raised."""
    await asyncio.wait([job])
    if not job.cancelled():
        job.result()


async def _again_and_again(store: Store, retention: Retention, interval: float) -> None:
    while True:
        try:
            pruned = await prune(store, retention)
            logger.info("pruned %s: %s", store.database_url, pruned.rows)
        except StoreClosedError:
            return
        except (TaskContextError, OSError) as error:
            logger.error("could not prune %s, trying again in %s s: %s", store.database_url, interval, error)
        await asyncio.sleep(interval)


def _database(store: Store) -> SqlStore:
    from taskctx_sql.sql.store import SqlStore

    assert isinstance(store, SqlStore)
    return store
