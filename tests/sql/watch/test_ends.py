"""How a watch ends, and what it outlasts; no task and no thread remains."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import asyncpg
import pytest

from taskctx_sql import ContextKey, Store, open_store
from taskctx_sql.errors import ContextNotFoundError, StoreClosedError, StoreUnavailableError
from tests.conftest import Opener
from tests.sql.watch.watches import PATIENCE, cancel, listening_threads, saved, take, waits
from tests.support.contract import stored
from tests.support.postgres import Server, new_database


async def test_a_watch_ends_with_the_context(store: Store, user: str) -> None:
    await saved(store, user, "old")
    async with aclosing(store.watch(ContextKey(user, "c1"), after=1)) as updates:
        coming = await waits(updates)
        await store.delete(ContextKey(user, "c1"))
        with pytest.raises(ContextNotFoundError):
            await coming


async def test_leaving_a_watch_leaves_nothing(store: Store, reopened: Opener, user: str) -> None:
    # The last notification may still be on its way.
    async with reopened() as other:
        await saved(other, user, "old")
    before = asyncio.all_tasks()
    for _ in range(3):
        async with aclosing(store.watch(ContextKey(user, "c1"), after=1)) as updates:
            await cancel(await waits(updates))
        async with aclosing(store.watch(ContextKey(user, "c1"))) as updates:
            async for _row in updates:
                break
    assert asyncio.all_tasks() <= before
    assert listening_threads() == []


async def test_a_cancellation_at_any_moment_leaves_nothing(store: Store, reopened: Opener, user: str) -> None:
    async with reopened() as other:
        await saved(other, user, *range(5))
    before = asyncio.all_tasks()

    async def watch() -> None:
        async for _ in store.watch(ContextKey(user, "c1")):
            pass

    for moment in range(40):
        watching = asyncio.create_task(watch())
        await asyncio.sleep(moment / 4_000)
        await cancel(watching)
    assert asyncio.all_tasks() <= before
    assert listening_threads() == []
    assert await stored(store, ContextKey(user, "c1")) == list(range(5))


async def test_closing_the_store_ends_its_watches(reopened: Opener, user: str) -> None:
    async with reopened() as store:
        await saved(store, user, "old")
        updates = store.watch(ContextKey(user, "c1"), after=1, poll_interval=600)
        coming = await waits(updates)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(StoreClosedError):
            await coming


async def test_a_watch_goes_on_when_its_connections_are_killed(
    listening_url: str, postgres_url: str, user: str
) -> None:
    connection = await asyncpg.connect(postgres_url)
    async with open_store(listening_url) as store, open_store(listening_url) as other:
        context = await saved(other, user, 0)
        async with aclosing(store.watch(ContextKey(user, "c1"))) as updates:
            await take(updates, 1)
            for number in range(1, 4):
                coming = await waits(updates)
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                context.add_context_update("message", number)
                await context.save()
                row = await coming
                assert (row.seq, row.update.data) == (number + 1, number)
    await connection.close()


async def test_a_watch_outlasts_a_server_that_starts_again_and_not_one_that_stays_away(user: str) -> None:
    with Server() as server:
        async with (
            new_database(server.url) as url,
            open_store(url, retry_seconds=PATIENCE) as store,
            open_store(url, retry_seconds=1) as hasty,
            aclosing(store.watch(ContextKey(user, "c1"), after=1)) as updates,
        ):
            context = await saved(store, user, 1)
            coming, soon = await waits(updates), await waits(hasty.watch(ContextKey(user, "c1"), after=1))
            await asyncio.to_thread(server.crash)
            with pytest.raises(StoreUnavailableError, match="watch"):
                await soon
            await asyncio.to_thread(server.start)
            context.add_context_update("message", 2)
            await context.save()
            assert (await coming).seq == 2
