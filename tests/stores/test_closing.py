"""Closing and cancelling: everything is given back, whoever is cancelled how often, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from taskctx_sql import ContextKey, SqlStore, open_store
from taskctx_sql.errors import StoreClosedError, StoreError, StoreUnavailableError
from taskctx_sql.sql import engines
from taskctx_sql.sql.backends import Backend, Share
from taskctx_sql.sql.backends.open import backend_on
from taskctx_sql.sql.plan import Plan
from tests.conftest import wide
from tests.support.connections import with_driver
from tests.support.contract import loaded, new_delta, stored

T = TypeVar("T")

RETRY = 1.0
# What a call may take beyond retrying on a machine that has much else to do. Without a limit it would be a minute.
MORE = 30.0
WAYS = ("address", "transaction pooling", "engine of the caller's", "psycopg", "asyncpg and transaction pooling")


@pytest.fixture(params=[WAYS[0], *wide(*WAYS[1:])])
async def postgres(request: pytest.FixtureRequest, postgres_url: str) -> AsyncIterator[SqlStore]:
    """A store on Postgres, of each way in turn."""
    way, database = str(request.param), postgres_url
    if way.startswith(("psycopg", "asyncpg")):
        database = with_driver(f"postgresql+{way.partition(' ')[0]}", postgres_url)
    engine = create_async_engine(engines.parse_url(database)) if way == WAYS[2] else None
    store = await _in_the_end(
        lambda: SqlStore.open(engine or database, transaction_pooling="pooling" in way, retry_seconds=RETRY)
    )
    yield store
    await store.close()
    if engine is not None:
        await engine.dispose()


@asynccontextmanager
async def _other(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of somebody else."""
    # Without SQLAlchemy's name of the driver; asyncpg takes an address as libpq does.
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def _in_the_end(call: Callable[[], Awaitable[T]]) -> T:
    """Call again while a busy machine is too slow for how little time a call may take here."""
    async with asyncio.timeout(MORE):
        while True:
            with contextlib.suppress(StoreUnavailableError):
                return await call()


def _unopened(engine: AsyncEngine, retry_seconds: float, *, owned: bool) -> SqlStore:
    way = backend_on if owned else partial(Backend, owns_engine=False)
    return SqlStore(Share(way(engine, None, retry_seconds)))


async def _seconds(work: Awaitable[object]) -> float:
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        await work
    return time.monotonic() - started


# Silence.


@pytest.mark.parametrize("plain", [False, True])
async def test_a_row_that_a_stranger_has_locked_is_waited_for_as_long_as_retrying(
    plain: bool, postgres: SqlStore, postgres_url: str, user: str
) -> None:
    context = await _in_the_end(lambda: loaded(postgres, user))
    context.add_context_update("message", 1)
    await _in_the_end(context.save)
    async with _other(postgres_url) as stranger, stranger.transaction():
        await stranger.execute("SELECT * FROM taskctx_contexts WHERE user_id = $1 FOR UPDATE", user)
        context.add_context_update("message", 2)
        assert await _seconds(context.save(if_unchanged=plain)) < RETRY + MORE
    await _in_the_end(context.save)
    assert await _in_the_end(lambda: stored(postgres, context.key)) == [1, 2]


async def test_a_server_that_falls_silent_is_waited_for_as_long_as_retrying(
    postgres: SqlStore, postgres_url: str, user: str
) -> None:
    context = await _in_the_end(lambda: loaded(postgres, user))
    context.add_context_update("message", 1)
    await _in_the_end(context.save)
    async with _other(postgres_url) as stranger:
        pids = [
            pid
            for (pid,) in await stranger.fetch(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
                "AND backend_type = 'client backend'"
            )
        ]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        context.add_context_update("message", 2)
        took = await asyncio.gather(
            _seconds(context.save()),
            _seconds(postgres.load(context.key)),
            _seconds(postgres.revisions(context.key)),
            return_exceptions=True,
        )
        # One that finds no connection of before makes a new one, to a server process that answers.
        assert all(isinstance(seconds, float | BaseException) for seconds in took)
        assert max([seconds for seconds in took if isinstance(seconds, float)], default=0.0) < RETRY + MORE
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    await _in_the_end(context.save)
    assert await _in_the_end(lambda: stored(postgres, context.key)) == [1, 2]


async def test_a_host_that_never_answers_is_waited_for_as_long_as_retrying() -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await _seconds(SqlStore.open(f"postgresql://u@127.0.0.1:{port}/x", retry_seconds=RETRY)) < RETRY + MORE
    server.close()


async def test_a_locked_sqlite_file_is_waited_for_as_long_as_retrying(tmp_path: Path, user: str) -> None:
    async with open_store(f"sqlite:///{tmp_path}/x.db", retry_seconds=RETRY) as store:
        context = await loaded(store, user)
        holder = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        context.add_context_update("message", 1)
        assert await _seconds(context.save()) < RETRY + MORE
        assert await _seconds(store.delete(context.key)) < RETRY + MORE
        holder.execute("ROLLBACK")
        holder.close()
        await _in_the_end(context.save)
        assert await stored(store, context.key) == [1]


# More than a limit's seconds, were each to wait anew when the one before had waited in vain.
CROWD = 60


@pytest.mark.wide
@pytest.mark.parametrize("chats", [1, CROWD])
@pytest.mark.parametrize("owned", [True, False])
async def test_a_crowd_waits_for_a_locked_sqlite_file_no_longer_than_one(
    tmp_path: Path, user: str, chats: int, owned: bool
) -> None:
    address = f"sqlite:///{tmp_path}/x.db"
    engine = create_async_engine(engines.parse_url(address), connect_args={"timeout": RETRY})
    async with open_store(address if owned else engine, retry_seconds=RETRY) as store:
        holder = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        keys = [ContextKey(user, f"c{number % chats}") for number in range(CROWD)]
        took = await asyncio.gather(*(_seconds(store.save(new_delta(key, 1))) for key in keys))
        holder.execute("ROLLBACK")
        holder.close()
        assert max(took) < RETRY + MORE
    await engine.dispose()


@pytest.mark.wide
@pytest.mark.parametrize("owned", [True, False])
async def test_a_crowd_waits_for_a_host_that_never_answers_no_longer_than_one(owned: bool) -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(never, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    engine = engines.create_engine(engines.parse_url(f"postgresql://u@127.0.0.1:{port}/x"))
    store = _unopened(engine, RETRY, owned=owned)
    key = ContextKey("u", "c")
    saves = [_seconds(store.save(new_delta(key, 1))) for _ in range(CROWD)]
    loads = [_seconds(store.load(key)) for _ in range(4 * CROWD)]
    assert max(await asyncio.gather(*saves, *loads)) < RETRY + MORE
    await store.close()
    await engine.dispose()
    server.close()


async def test_a_read_that_is_cancelled_ends_at_once(postgres: SqlStore) -> None:
    slow = sa.select(sa.func.pg_sleep(2 * MORE))
    asked = [asyncio.create_task(postgres.query(slow))]
    asked.append(asyncio.create_task(postgres.read("sleep", lambda: _sleep(2 * MORE))))
    await asyncio.sleep(0.3)
    started = time.monotonic()
    for task in asked:
        task.cancel()
    await asyncio.wait(asked)
    assert time.monotonic() - started < MORE
    assert all(task.cancelled() for task in asked)


async def test_a_report_may_take_longer_than_retrying(postgres: SqlStore) -> None:
    await postgres.read("sleep", lambda: _sleep(RETRY + 3))


# Not with an address alone, where waiting for a lock has a limit of its own.
@pytest.mark.parametrize("postgres", wide(WAYS[1], WAYS[2], WAYS[4]), indirect=True)
async def test_what_has_many_rows_may_take_longer_than_retrying(
    postgres: SqlStore, postgres_url: str, user: str
) -> None:
    keys = [ContextKey(user, f"c{number}") for number in range(4)]
    for key in keys:
        await postgres.save(new_delta(key, *range(6_000)))
    small = ContextKey(user, "small")
    await postgres.save(new_delta(small, 1))
    restored = await loaded(postgres, user, keys[3].chat_id)
    restored.context_history.clear()
    await restored.save()
    async with _other(postgres_url) as stranger, stranger.transaction():
        await stranger.execute("LOCK TABLE taskctx_updates")
        work: list[Awaitable[Any]] = [postgres.load(keys[0]), postgres.delete(keys[1]), postgres.fork(keys[2], "fork")]
        calls = [asyncio.ensure_future(call) for call in (*work, restored.restore(1))]
        small_ones: list[Awaitable[Any]] = [postgres.load(small), postgres.delete(small), postgres.fork(small, "other")]
        await asyncio.gather(*map(_seconds, small_ones))
        # Longer than a call may take that has little to do.
        await asyncio.sleep(1)
        assert not any(call.done() for call in calls)
    await asyncio.gather(*calls)
    assert len(restored.context_history) == len(await stored(postgres, ContextKey(user, "fork"))) == 6_000
    assert await stored(postgres, keys[1]) == []


def _sleep(seconds: float) -> Plan[Any]:
    from taskctx_sql.sql.plan import Step

    found = yield Step(
        sa.select(sa.func.pg_sleep(sa.bindparam("seconds", type_=sa.Float))), {"seconds": seconds}, reads=True
    )
    return found


# Closing.


async def test_a_call_to_a_server_that_is_away_ends_when_the_store_is_closed() -> None:
    for owns in (True, False):
        engine = engines.create_engine(engines.parse_url("postgresql://u@127.0.0.1:1/x"))
        store = _unopened(engine, 2 * MORE, owned=owns)
        calls: list[asyncio.Task[object]] = [asyncio.create_task(store.load(ContextKey("u", "c"))) for _ in range(6)]
        calls += [asyncio.create_task(store.save(new_delta(ContextKey("u", f"c{n}"), 1))) for n in range(3)]
        await asyncio.sleep(0.3)
        await asyncio.wait_for(store.close(), MORE)
        answers = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), MORE)
        assert all(isinstance(answer, StoreClosedError | StoreUnavailableError) for answer in answers), answers
        await engine.dispose()


async def test_closing_waits_for_saves_that_are_under_way(database_url: str, user: str) -> None:
    store = await open_store(database_url)
    keys = [ContextKey(user, f"c{number}") for number in range(8)]
    saves = [
        asyncio.create_task(store.save(new_delta(key, "x", if_unchanged=bool(n % 2)))) for n, key in enumerate(keys)
    ]
    await asyncio.sleep(0.002)
    await asyncio.gather(store.close(), store.close())
    late = [save for save in saves if not save.done()]
    await asyncio.wait(saves)
    # What did not begin in time is refused; nothing is written behind the back of who closed.
    assert all(isinstance(save.exception(), StoreClosedError) for save in late)
    async with open_store(database_url) as again:
        for key, save in zip(keys, saves, strict=True):
            failed = save.exception()
            assert failed is None or isinstance(failed, StoreError)
            assert await stored(again, key) == ([] if failed else ["x"])


async def test_closing_goes_to_its_end_however_often_it_is_cancelled(database_url: str, user: str) -> None:
    before = set(threading.enumerate())
    store = await open_store(database_url)
    await store.save(new_delta(ContextKey(user, "c"), "x"))
    await store.load(ContextKey(user, "c"))
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    while not closing.done():
        closing.cancel()
        await asyncio.sleep(0)
    assert closing.cancelled()
    assert [one.name for one in set(threading.enumerate()) - before if not one.name.startswith("asyncio_")] == []


async def test_a_save_that_is_on_the_disk_is_told_of_before_the_next_lock_is_waited_for(
    tmp_path: Path, user: str
) -> None:
    async with open_store(f"sqlite:///{tmp_path}/x.db", retry_seconds=2 * MORE) as store:
        holder = sqlite3.connect(tmp_path / "x.db", isolation_level=None, check_same_thread=False)
        await store.save(new_delta(ContextKey(user, "a"), 1))
        written = threading.Event()

        def hold() -> None:
            while not holder.execute("SELECT 1 FROM taskctx_contexts WHERE chat_id = 'b'").fetchall():
                written.wait(0.0001)
            holder.execute("BEGIN IMMEDIATE")

        holding = asyncio.create_task(asyncio.to_thread(hold))
        first = asyncio.create_task(store.save(new_delta(ContextKey(user, "b"), 1)))
        await asyncio.wait([holding])
        second = asyncio.create_task(store.save(new_delta(ContextKey(user, "c"), 1)))
        done, _ = await asyncio.wait([first], timeout=MORE)
        holder.execute("ROLLBACK")
        holder.close()
        assert done
        await second
