"""Cancellation as anyio and web frameworks have it: each await in a scope that is cancelled is cancelled again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from pathlib import Path

import anyio
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from taskctx_sql import ContextKey, SqlStore, Store, open_store, schema, task_context
from taskctx_sql.errors import StoreClosedError
from taskctx_sql.model import Retention
from taskctx_sql.sql import engines, row_codec
from taskctx_sql.sql.backends import shared
from taskctx_sql.sql.schema import HEAD, runs
from tests.conftest import wide
from tests.support.contract import new_delta, stored
from tests.support.waiting import SOON

# After how many steps of the loop a scope is cancelled: in the midst of a call, wherever that is.
STEPS = (0, 2, 5, 13, *wide(1, 3, 8, 21))


async def _cancel(scope: anyio.CancelScope, steps: int) -> None:
    for _ in range(steps):
        await asyncio.sleep(0)
    scope.cancel()


async def _cancelled(work: Awaitable[object], steps: int) -> None:
    """Await it in a scope that is cancelled after a number of steps of the loop."""
    with anyio.CancelScope() as scope:
        cancelling = asyncio.create_task(_cancel(scope, steps))
        await work
    cancelling.cancel()
    await asyncio.wait([cancelling])


async def _cancelled_when(ready: asyncio.Event, work: Awaitable[object], steps: int) -> None:
    """The same, counted from an event on."""
    with anyio.CancelScope() as scope:

        async def cancel() -> None:
            await ready.wait()
            await _cancel(scope, steps)

        cancelling = asyncio.create_task(cancel())
        await work
    await cancelling


async def _nothing_is_left(url: str) -> None:
    """See that no connection stays. The fixture of all tests sees to the threads."""
    assert not shared._open
    if url.startswith("postgresql"):
        statement = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend'"
        )
        engine = create_async_engine(engines.parse_url(url))
        # The server hears of the end of a connection after its client.
        async with engine.connect() as connection, asyncio.timeout(SOON):
            while await connection.scalar(sa.text(statement)):
                await connection.rollback()
                await asyncio.sleep(0.01)
        await engine.dispose()


@pytest.mark.parametrize("steps", STEPS)
async def test_leaving_a_context_saves_what_is_unsaved(database_url: str, user: str, steps: int) -> None:
    await schema.upgrade(database_url)
    data, key = {"user_id": user, "chat_id": "c"}, ContextKey(user, "c")
    async with open_store(database_url) as store:
        await store.save(new_delta(key, 1))

    async def request() -> None:
        async with task_context(data, database_url=database_url) as context:
            ready.set()
            context.add_context_update("message", 2)
            try:
                await context.save()
                await anyio.sleep(60)
            finally:
                context.add_context_update("message", 3)

    ready = asyncio.Event()
    await _cancelled_when(ready, request(), steps)
    await _nothing_is_left(database_url)
    async with open_store(database_url) as store:
        assert isinstance(store, SqlStore)
        assert await stored(store, key) == [1, 2, 3]
        found = await store.query(sa.select(runs.c.outcome).where(runs.c.context_id == row_codec.context_id(key)))
        assert sorted(outcome or "" for (outcome,) in found) == ["", "cancelled"]


@pytest.mark.parametrize("steps", STEPS)
async def test_a_store_that_is_left_is_closed_and_its_job_ended(database_url: str, user: str, steps: int) -> None:
    await schema.upgrade(database_url)
    opened: list[Store] = []

    async def request() -> None:
        async with open_store(database_url, retention=Retention(max_age=9e9), cleanup_interval=0.001) as store:
            opened.append(store)
            ready.set()
            await store.save(new_delta(ContextKey(user, "c"), 1))
            await anyio.sleep(60)

    ready = asyncio.Event()
    await _cancelled_when(ready, request(), steps)
    with pytest.raises(StoreClosedError):
        await opened[0].load(ContextKey(user, "c"))
    assert [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
    await _nothing_is_left(database_url)


@pytest.mark.parametrize("steps", STEPS)
async def test_an_opening_that_is_cancelled_leaves_nothing(database_url: str, user: str, steps: int) -> None:
    async def request() -> None:
        async with open_store(database_url) as store:
            await store.load(ContextKey(user, "c"))
            await anyio.sleep(60)

    for more in range(4):
        await _cancelled(request(), 4 * steps + more)
        await _nothing_is_left(database_url)


@pytest.mark.parametrize("steps", STEPS)
async def test_an_upgrade_that_is_cancelled_leaves_nothing(steps: int, tmp_path: Path, empty_postgres_url: str) -> None:
    for url in (f"sqlite:///{tmp_path}/x.db", empty_postgres_url):
        for more in range(3):
            await _cancelled(schema.upgrade(url), 10 * steps + more)
            await _nothing_is_left(url)
        await schema.upgrade(url)
        assert await schema.current(url) == HEAD


@pytest.mark.parametrize("steps", STEPS)
async def test_a_watcher_that_is_cancelled_leaves_nothing(database_url: str, user: str, steps: int) -> None:
    key = ContextKey(user, "c")
    async with open_store(database_url) as store:
        await store.save(new_delta(key, 1))

        async def watch() -> None:
            async with contextlib.aclosing(store.watch(ContextKey(user, "c"))) as updates:
                async for _ in updates:
                    ready.set()

        ready = asyncio.Event()
        await _cancelled_when(ready, watch(), steps)
        assert [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "taskctx-listener"] == []
        await store.save(new_delta(ContextKey(user, "d"), 1))
    await _nothing_is_left(database_url)
