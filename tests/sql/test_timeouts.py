"""asyncio.timeout takes effect in every call while the database does not answer, and nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from taskctx_sql import ContextKey, SqlStore, maintenance, open_store, schema
from taskctx_sql.model import Delta, Run
from taskctx_sql.sql import postgres_connection
from taskctx_sql.sql.backends import backend
from taskctx_sql.sql.retry import ROWS_A_SECOND, extend_limit
from taskctx_sql.testing.deltas import new_delta
from tests.support.connections import with_driver
from tests.support.stalling import Stalling
from tests.support.waiting import SOON

DRIVERS = ("asyncpg", "psycopg")
Call = Callable[[SqlStore, ContextKey], Awaitable[Any]]


async def _first(rows: AsyncIterator[Any]) -> Any:
    async with aclosing(rows) as left:  # type: ignore[type-var]  # a generator, as all of them are
        return await anext(left)


READS: dict[str, Call] = {
    "load": lambda store, key: store.load(key),
    "updates": lambda store, key: _first(store.updates(key)),
    "contexts": lambda store, key: store.contexts(key.user_id),
    "revisions": lambda store, key: store.revisions(key),
    "difference": lambda store, key: store.difference(key, 1, 1),
    "watch": lambda store, key: _first(store.watch(key)),
    "query": lambda store, key: store.query(sa.select(sa.literal(1)).select_from(schema.tables.contexts)),
    "reports": lambda store, key: store.reports.errors(limit=1),
    "ping": lambda store, key: store.ping(timeout=60),
}
WRITES: dict[str, Call] = {
    "save": lambda store, key: store.save(new_delta(key, "b")),
    "large save": lambda store, key: store.save(new_delta(key, *("b" for _ in range(600)))),
    "fork": lambda store, key: store.fork(key, f"fork-{time.monotonic_ns()}"),
    "delete": lambda store, key: store.delete(ContextKey(key.user_id, "another")),
    "erase": lambda store, key: maintenance.erase(store, key.user_id, "to erase"),
}


async def _times_out(call: Awaitable[Any], name: str = "") -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):  # what is tested is the block
        async with asyncio.timeout(0.2):
            await call
            pytest.fail(f"{name} did not wait")
    # A write that is under way is waited for a little, and a connection is closed without an answer.
    assert time.monotonic() - began < SOON, name


async def _works(store: SqlStore, key: ContextKey, text: str) -> None:
    await store.save(new_delta(ContextKey(key.user_id, f"works-{text}"), "a"))
    assert (await store.load(key)).revision


@pytest.mark.parametrize("driver", DRIVERS)
async def test_every_call_ends_when_a_postgres_stops_answering(
    driver: str, postgres_url: str, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A record of its log has the error, and with it the connection by which it would have cancelled a statement.
    monkeypatch.setattr(logging.getLogger("psycopg"), "disabled", True)
    key = ContextKey(user, "c1")
    async with Stalling(postgres_url) as server:
        url = with_driver(f"postgresql+{driver}", server.url)
        store = await SqlStore.open(url, retry_seconds=60)
        await store.save(new_delta(key, "a"))
        await store.save(new_delta(ContextKey(user, "to erase"), "a"))
        # All at once, since each waits.
        calls = {**READS, **WRITES}
        server.stall()
        await asyncio.gather(*(_times_out(call(store, key), name) for name, call in calls.items()))
        await asyncio.gather(_times_out(_opened(url)), _times_out(schema.current(url)), _times_out(schema.upgrade(url)))
        # That of the notifier, which sends what the first save has to tell.
        assert store._backend.engine.pool.checkedout() <= 1  # type: ignore[attr-defined]
        server.go_on()
        await _works(store, key, "afterwards")
        server.stall()
        began = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await store.close()
        assert time.monotonic() - began < SOON
        server.go_on()
        await store.close()
        # psycopg leaves a connection that was not made yet to the garbage collector.
        gc.collect()
        async with asyncio.timeout(SOON):
            await server.empty()


async def _opened(url: str) -> None:
    async with open_store(url):
        pass


async def test_every_write_ends_when_a_sqlite_file_is_locked(tmp_path: Path, sqlite_file: Path, user: str) -> None:
    path, key = tmp_path / "tasks.db", ContextKey(user, "c1")
    shutil.copy(sqlite_file, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        store = await SqlStore.open(f"sqlite:///{path}", retry_seconds=2 * SOON)
        await store.save(new_delta(key, "a"))
        await store.save(new_delta(ContextKey(user, "to erase"), "a"))
        other.execute("BEGIN IMMEDIATE")
        await asyncio.gather(*(_times_out(call(store, key), name) for name, call in WRITES.items()))
        for name in ("load", "contexts", "ping"):
            await READS[name](store, key)
        other.execute("ROLLBACK")
        await _works(store, key, "afterwards")
        other.execute("BEGIN IMMEDIATE")
        saving = asyncio.create_task(store.save(new_delta(ContextKey(user, "c2"), "a")))
        await asyncio.sleep(0.05)
        await _times_out(store.close())
        other.execute("ROLLBACK")
        await store.close()
        await saving
        # No lock is left behind.
        other.execute("BEGIN EXCLUSIVE")
        other.execute("ROLLBACK")


async def test_every_call_ends_when_a_file_of_ones_own_engine_is_locked(
    tmp_path: Path, sqlite_file: Path, user: str
) -> None:
    path, key = tmp_path / "tasks.db", ContextKey(user, "c1")
    shutil.copy(sqlite_file, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        # Then readers wait for writers, too.
        other.execute("PRAGMA journal_mode = DELETE")
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}", connect_args={"timeout": 2 * SOON})
        store = await SqlStore.open(engine, retry_seconds=2 * SOON)
        await store.save(new_delta(key, "a"))
        await store.save(new_delta(ContextKey(user, "to erase"), "a"))
        other.execute("BEGIN EXCLUSIVE")
        calls = {**READS, **WRITES}
        await asyncio.gather(*(_times_out(call(store, key), name) for name, call in calls.items()))
        other.execute("ROLLBACK")
        await _works(store, key, "afterwards")
        await store.close()
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        await engine.dispose()
        other.execute("BEGIN EXCLUSIVE")
        other.execute("ROLLBACK")


async def test_a_save_that_was_given_up_is_repeated_without_harm(postgres_url: str, user: str) -> None:
    key = ContextKey(user, "c1")
    async with Stalling(postgres_url) as server, open_store(server.url, retry_seconds=60) as store:
        delta = new_delta(key, "a")
        server.stall()
        saving = [store.save(delta), store.save(new_delta(ContextKey(user, "c2"), "b"))]
        await asyncio.gather(*map(_times_out, saving))
        server.go_on()
        await store.save(delta)
        assert [row.update.data async for row in store.updates(key)] == ["a"]


async def test_the_others_of_a_group_go_on_when_one_is_given_up(postgres_url: str, user: str) -> None:
    async with Stalling(postgres_url) as server, open_store(server.url, retry_seconds=60) as store:
        await store.ping()
        server.stall()
        first = asyncio.create_task(store.save(new_delta(ContextKey(user, "c0"), "a")))
        others = [asyncio.create_task(store.save(new_delta(ContextKey(user, f"c{n}"), "a"))) for n in (1, 2, 3)]
        await _times_out(others[0])
        server.go_on()
        await asyncio.gather(first, *others[1:])
        with contextlib.suppress(asyncio.CancelledError):
            await others[0]
        assert len(await store.contexts(user)) >= 3


@pytest.mark.parametrize("kind", ["sqlite engine", "postgres"])
async def test_restores_and_deletions_get_time_for_the_named_values_too(
    store: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []

    def extended(limit: asyncio.Timeout, seconds: float) -> None:
        given.append(seconds)
        extend_limit(limit, seconds)

    for module in (backend, postgres_connection):
        monkeypatch.setattr(module, "extend_limit", extended)
    key = ContextKey(user, "c1")
    for value in (1, 2):
        await store.write(key, state=dict.fromkeys(map(str, range(2_000)), value))
    assert sum(given) == 0
    await store.save(
        Delta(key, Run("r1", 1, 1.0), (await store.load(key)).base, 1.0, operation="restore", source_revision=1)
    )
    await store.delete(key)
    for call, rows in zip(("restore", "delete"), given[-2:], strict=True):
        assert rows * ROWS_A_SECOND >= 4_000, call


async def test_a_query_that_nobody_waits_for_any_more_ends(tmp_path: Path) -> None:
    numbers = sa.select(sa.literal(1).label("n")).cte("numbers", recursive=True)
    endless = sa.select(sa.func.count()).select_from(numbers.union_all(sa.select(numbers.c.n + 1)))
    async with asyncio.timeout(SOON):
        async with open_store(f"sqlite:///{tmp_path}/tasks.db") as store:
            assert isinstance(store, SqlStore)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await store.query(endless)
            assert await store.query(sa.select(sa.literal(1))) == [(1,)]
