"""What the SQL store does when the database fails: retries, broken connections, cancellations, outages."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import sqlite3
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from taskctx_sql import ContextKey, SqlStore, open_store, schema
from taskctx_sql.errors import StoreUnavailableError
from taskctx_sql.model import FileChange
from taskctx_sql.sql import engines
from taskctx_sql.sql.engines.drivers import AsyncpgDriver
from taskctx_sql.sql.retry import Retrying
from tests.support.contract import loaded, never_returned, new_delta, stored
from tests.support.waiting import SOON


@pytest.fixture
async def store(sql_store: SqlStore) -> SqlStore:
    """A store on an engine that the test can listen to, of each database in turn."""
    return sql_store


async def test_a_locked_sqlite_file_is_waited_for(tmp_path: Path, user: str) -> None:
    path = tmp_path / "x.db"
    async with open_store(f"sqlite:///{path}") as store:
        holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        holder.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.5, lambda: holder.execute("ROLLBACK"))
        timer.start()
        await store.save(new_delta(ContextKey(user, "c"), "waited"))
        assert await stored(store, ContextKey(user, "c")) == ["waited"]
        timer.join()
        holder.close()


async def test_opening_a_file_again_keeps_the_locks_that_this_process_has(tmp_path: Path, user: str) -> None:
    path = tmp_path / "x.db"
    async with open_store(f"sqlite:///{path}") as store:
        await store.save(new_delta(ContextKey(user, "c"), "a"))
        await schema.current(f"sqlite:///{path}")
        async with open_store(f"sqlite:///{path}"):
            pass
        # Closing any descriptor of a file drops the process's locks on it. Then this stranger would be the last one
        # out, as far as it can see, and take the log away with it.
        stranger = (
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM taskctx_runs'); c.close()"
        )
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", stranger, str(path))
        assert await process.wait() == 0
        assert Path(f"{path}-wal").exists()
        await store.save(new_delta(ContextKey(user, "c"), "b"))
        assert await stored(store, ContextKey(user, "c")) == ["a", "b"]


async def test_a_lock_that_stays_raises_with_the_time_waited(
    tmp_path: Path, user: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("taskctx_sql.sql.engines.sqlite.SQLITE_BUSY_SECONDS", 0.05)
    path = tmp_path / "x.db"
    store = await open_store(f"sqlite:///{path}", retry_seconds=0.5)
    context = await loaded(store, user)
    context.add_context_update("message", "kept")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="what is unsaved is kept") as caught:
        await context.save()
    assert 0.2 < caught.value.waited < SOON
    assert not caught.value.outcome_unknown
    assert caplog.text.count("trying again") == 1
    holder.execute("ROLLBACK")
    holder.close()
    await context.save()
    assert await stored(store, context.key) == ["kept"]
    await store.close()


async def test_a_postgres_that_is_away_raises_with_the_time_waited() -> None:
    with pytest.raises(StoreUnavailableError, match="within"):
        await open_store("postgresql://nobody:hidden@127.0.0.1:1/none", retry_seconds=0.3)


async def test_connections_that_the_server_ends_are_replaced(postgres_url: str, user: str) -> None:
    async with open_store(postgres_url) as store:
        assert isinstance(store, SqlStore)
        context = await loaded(store, user)
        killer = create_async_engine(engines.parse_url(postgres_url), isolation_level="AUTOCOMMIT")
        for number in range(5):
            context.add_context_update("message", number)
            await context.save()
            async with killer.connect() as connection:
                await connection.exec_driver_sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
        await killer.dispose()
        context.add_context_update("message", 5)
        await context.save()
        assert await stored(store, context.key) == [0, 1, 2, 3, 4, 5]


async def test_a_server_that_is_killed_at_any_time_costs_nothing_and_doubles_nothing(
    postgres_url: str, user: str
) -> None:
    async with open_store(postgres_url) as store:
        context = await loaded(store, user)
        killer = create_async_engine(engines.parse_url(postgres_url), isolation_level="AUTOCOMMIT")
        done = asyncio.Event()

        async def kill() -> None:
            async with killer.connect() as connection:
                while not done.is_set():
                    await connection.exec_driver_sql(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                    # Long enough for a busy machine to connect and save in between.
                    await asyncio.sleep(random.uniform(0.01, 0.2))

        killing = asyncio.create_task(kill())
        for number in range(150):
            context.add_context_update("message", number)
            await context.save()
        done.set()
        await killing
        await killer.dispose()
        assert await stored(store, context.key) == list(range(150))
        rows_found = [row.seq async for row in store.updates(context.key)]
        assert rows_found == list(range(1, 151))


@pytest.mark.parametrize("failures", [1, 3])
async def test_a_commit_that_breaks_leaves_the_save_in_doubt_and_it_is_written_once(
    engine: AsyncEngine, user: str, failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await SqlStore.open(engine, retry_seconds=0)
    context = await loaded(store, user)
    left = [failures]

    def break_off(*_: Any) -> None:
        if left[0]:
            left[0] -= 1
            raise OSError("the connection broke")

    # On Postgres a save is one statement, which commits itself; its answer is lost.
    fetch = AsyncpgDriver.fetch

    async def fetch_and_lose(driver: AsyncpgDriver, sql: str, values: Sequence[Any]) -> Sequence[Sequence[Any]]:
        rows = await fetch(driver, sql, values)
        if "taskctx_save" in sql:
            break_off()
        return rows

    monkeypatch.setattr(AsyncpgDriver, "fetch", fetch_and_lose)
    sa.event.listen(engine.sync_engine, "commit", break_off)
    context.add_context_update("message", "a")
    for _ in range(failures):
        with pytest.raises(StoreUnavailableError) as caught:
            await context.save()
        assert caught.value.outcome_unknown
        context.add_context_update("message", "later")
    await context.save()
    assert await stored(store, context.key) == ["a", *["later"] * failures]
    await store.close()


@pytest.mark.parametrize("when", ["at COMMIT", "before"])
async def test_an_internal_error_is_tried_again(empty_postgres_url: str, user: str, when: str) -> None:
    """A Citus raises it at COMMIT when one of its machines is away; whether COMMIT happened is unknown."""
    await schema.upgrade(empty_postgres_url)
    engine = create_async_engine(engines.parse_url(empty_postgres_url))
    async with engine.begin() as connection:
        await connection.exec_driver_sql("CREATE SEQUENCE failures")
        # A sequence is not rolled back: it fails the first time only.
        await connection.exec_driver_sql(
            "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF nextval('failures') = 1 THEN RAISE 'a node is away' USING ERRCODE = 'XX000'; END IF; RETURN new; END $$"
        )
        kind, deferred = (
            ("CONSTRAINT TRIGGER", "DEFERRABLE INITIALLY DEFERRED") if when == "at COMMIT" else ("TRIGGER", "")
        )
        await connection.exec_driver_sql(
            f"CREATE {kind} fail AFTER INSERT ON taskctx_updates {deferred} FOR EACH ROW EXECUTE FUNCTION fail()"
        )
    async with open_store(engine) as store:
        await store.save(new_delta(ContextKey(user, "c"), "a"))
        assert await stored(store, ContextKey(user, "c")) == ["a"]
    await engine.dispose()


async def test_a_storm_of_cancellations_leaves_whole_saves_and_no_connection(store: SqlStore, user: str) -> None:
    key = ContextKey(user, "c")

    async def save(number: int) -> None:
        entry = {"operation": str(number)}
        await store.save(new_delta(key, [number, 1], [number, 2], files=[FileChange(number, entry, None)]))

    tasks = []
    for number in range(120):
        tasks.append(asyncio.create_task(save(number)))
        await asyncio.sleep(0.0003)
        tasks[number // 2].cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert any(isinstance(end, asyncio.CancelledError) for end in ends)
    loaded_now = await store.load(key)
    datas = [tuple(row.update.data) for row in loaded_now.updates]
    assert len(datas) == 2 * len(loaded_now.files)
    assert len(set(datas)) == len(datas)
    for number, end in enumerate(ends):
        if end is None:
            assert (number, 1) in datas
    assert await never_returned(store._backend.engine) == 0
    async with asyncio.timeout(SOON):
        await store.save(new_delta(key, [-1, 1], [-1, 2]))


async def test_an_outage_is_logged_once_when_it_begins_and_once_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    retrying = Retrying("the database", 30)
    tries = 0

    async def work() -> str:
        nonlocal tries
        tries += 1
        if tries <= 40:
            raise ConnectionRefusedError("nobody there")
        return "done"

    for _ in range(2):
        tries = 0
        assert await asyncio.gather(*(retrying.run("save", work) for _ in range(20))) == ["done"] * 20
    began, ended = caplog.messages[::2], caplog.messages[1::2]
    assert began == ["could not save in the database, trying again: ConnectionRefusedError: nobody there"] * 2
    assert [re.sub(r"[\d.]+", "N", message) for message in ended] == ["the database is back after N s"] * 2
