"""Upgrades beside others: they take turns, wait for locks with a bound, and keep nobody waiting."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from taskctx_sql import ContextKey, open_store, schema, task_context
from taskctx_sql.errors import StoreUnavailableError
from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import HEAD, REVISIONS, migrate, migrations
from tests.conftest import wide
from tests.sql.schema.migrate.databases import run
from tests.support import accounts
from tests.support.contract import new_delta, stored
from tests.support.waiting import SOON


@pytest.mark.wide
@pytest.mark.parametrize("processes", [3, *wide(6)])
async def test_upgrades_at_once_are_safe(url: str, processes: int) -> None:
    code = "import asyncio, sys, taskctx_sql; asyncio.run(taskctx_sql.schema.upgrade(sys.argv[1]))"
    started = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", code, url, stderr=asyncio.subprocess.PIPE)
        for _ in range(processes)
    ]
    ends = await asyncio.gather(
        *(process.communicate() for process in started), *(schema.upgrade(url) for _ in range(4))
    )
    assert [process.returncode for process in started] == [0] * processes, ends
    assert await schema.current(url) == HEAD


@pytest.mark.parametrize("found", [None, REVISIONS[-2]])
async def test_an_upgrade_waits_for_another_one(url: str, engine: AsyncEngine, found: str | None) -> None:
    await run(engine, "CREATE TABLE yours (x TEXT)")
    if found is not None:
        await schema.upgrade(url, found)
    async with engine.connect() as connection:
        await connection.begin()
        await connection.run_sync(migrations.take_upgrade_lock, None)
        waiting = asyncio.create_task(schema.upgrade(url))
        await asyncio.sleep(0.7)
        assert not waiting.done()
        await connection.rollback()
    await waiting
    assert await schema.current(url) == HEAD


async def test_an_account_that_only_uses_the_tables_blocks_no_upgrade(empty_postgres_url: str) -> None:
    await schema.upgrade(empty_postgres_url)
    application = await accounts.create(empty_postgres_url)
    await schema.downgrade(empty_postgres_url, REVISIONS[-2])
    holder = create_async_engine(engines.parse_url(application))
    async with holder.connect() as connection:
        await connection.execute(sa.text(f"SELECT pg_advisory_lock({migrations.UPGRADE_LOCK})"))
        await connection.execute(sa.text("SELECT version_num FROM taskctx_alembic_version"))
        await asyncio.wait_for(schema.upgrade(empty_postgres_url), 60)
        assert await schema.current(empty_postgres_url) == HEAD
        # It finds nothing to do, and needs no right to do it.
        await asyncio.wait_for(schema.upgrade(application), 60)
    await holder.dispose()
    await accounts.drop(empty_postgres_url, application)


async def test_a_new_sqlite_file_opened_by_many_at_once_is_set_up_once(tmp_path: Path, user: str) -> None:
    url = f"sqlite:///{tmp_path}/new.db"
    code = (
        "import asyncio, sys\nfrom taskctx_sql import task_context\n"
        "async def main():\n"
        "    async with task_context({'user_id': sys.argv[2]}, database_url=sys.argv[1]) as context:\n"
        "        context.add_context_update('message', 'hello')\n"
        "asyncio.run(main())\n"
    )
    started = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", code, url, user, stderr=asyncio.subprocess.PIPE)
        for _ in range(6)
    ]
    ends = await asyncio.gather(*(process.communicate() for process in started))
    assert [process.returncode for process in started] == [0] * 6, ends
    async with task_context({"user_id": user}, database_url=url) as context:
        assert len(context.context_history) == 6


async def test_an_upgrade_that_is_cancelled_while_it_waits_blocks_no_other(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path}/{number}.db" for number in range(6)]
    upgrades = [asyncio.create_task(schema.upgrade(url)) for url in urls]
    await asyncio.sleep(0)
    for waiting in upgrades[1:-1]:
        waiting.cancel()
    await asyncio.wait(upgrades)
    await asyncio.wait_for(schema.upgrade(urls[1]), 60)
    assert [await schema.current(url) for url in (urls[0], urls[1], urls[-1])] == [HEAD] * 3


async def _in_transaction(url: str, statement: str) -> tuple[AsyncEngine, AsyncConnection]:
    """Leave a stranger's transaction open, in which a statement was executed."""
    engine = create_async_engine(engines.parse_url(url))
    connection = await engine.connect()
    await connection.execute(sa.text(statement))
    return engine, connection


@pytest.mark.wide
@pytest.mark.parametrize("how", ["address", "engine"])
async def test_a_schema_change_behind_a_long_reader_lets_savers_and_readers_through(
    how: str, empty_postgres_url: str, user: str
) -> None:
    await schema.upgrade(empty_postgres_url)
    async with open_store(empty_postgres_url, retry_seconds=60) as store:
        await store.save(new_delta(ContextKey(user, "before"), "x"))
        reading, reader = await _in_transaction(empty_postgres_url, "SELECT count(*) FROM taskctx_updates")
        own = create_async_engine(engines.parse_url(empty_postgres_url))
        change = asyncio.create_task(
            schema.upgrade(own if how == "engine" else empty_postgres_url, row_level_security=True)
        )
        await asyncio.sleep(0.5)
        for number in range(3):
            async with asyncio.timeout(migrate.LOCK_SECONDS + SOON):
                await store.save(new_delta(ContextKey(user, f"c{number}"), "x"))
                assert await stored(store, ContextKey(user, "before")) == ["x"]
        assert not change.done()
        await reader.close()
        await asyncio.wait_for(change, 60)
    assert await migrate.row_level_security(empty_postgres_url)
    await reading.dispose()
    await own.dispose()


async def test_an_upgrade_lock_that_is_never_released_is_an_error(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "UPGRADE_SECONDS", 2.0)
    keeping, keeper = await _in_transaction(
        empty_postgres_url, f"SELECT pg_advisory_xact_lock({migrations.UPGRADE_LOCK})"
    )
    with pytest.raises(StoreUnavailableError, match="pg_locks"):
        await asyncio.wait_for(schema.upgrade(empty_postgres_url), 60)
    await keeper.close()
    await schema.upgrade(empty_postgres_url)
    assert await schema.current(empty_postgres_url) == HEAD
    await keeping.dispose()


async def test_an_upgrade_that_waits_for_a_lock_can_be_cancelled(empty_postgres_url: str) -> None:
    keeping, keeper = await _in_transaction(
        empty_postgres_url, f"SELECT pg_advisory_xact_lock({migrations.UPGRADE_LOCK})"
    )
    change = asyncio.create_task(schema.upgrade(empty_postgres_url))
    await asyncio.sleep(0.5)
    change.cancel()
    await asyncio.wait([change], timeout=SOON)
    assert change.cancelled()
    await keeper.close()
    await asyncio.wait_for(schema.upgrade(empty_postgres_url), 60)
    await keeping.dispose()


async def test_an_upgrade_that_waits_for_a_locked_file_blocks_no_new_file(tmp_path: Path) -> None:
    holder = sqlite3.connect(tmp_path / "locked.db", isolation_level=None)
    holder.execute("PRAGMA journal_mode = WAL")
    holder.execute("BEGIN IMMEDIATE")
    change = asyncio.create_task(schema.upgrade(f"sqlite:///{tmp_path}/locked.db"))
    await asyncio.sleep(0.5)
    async with asyncio.timeout(SOON), open_store(f"sqlite:///{tmp_path}/new.db") as store:
        await store.save(new_delta(ContextKey("u", "c"), "x"))
    assert not change.done()
    holder.execute("ROLLBACK")
    holder.close()
    await asyncio.wait_for(change, 60)
    assert await schema.current(f"sqlite:///{tmp_path}/locked.db") == HEAD


async def test_an_upgrade_of_a_locked_file_fails_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "SQLITE_BUSY_SECONDS", 2.0)
    holder = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    holder.execute("PRAGMA journal_mode = WAL")
    holder.execute("BEGIN IMMEDIATE")
    engine = create_async_engine(engines.parse_url(f"sqlite:///{tmp_path}/x.db"), connect_args={"timeout": 7})
    with pytest.raises(StoreUnavailableError, match="another process holds the file"):
        await asyncio.wait_for(schema.upgrade(engine), 60)
    holder.close()
    async with engine.connect() as connection:
        # The caller's setting is as it was.
        assert (await connection.exec_driver_sql("PRAGMA busy_timeout")).scalar() == 7_000
    await engine.dispose()


async def test_a_schema_change_that_never_ends_keeps_no_other_database_waiting(
    tmp_path: Path, empty_postgres_url: str
) -> None:
    engine = create_async_engine(engines.parse_url(empty_postgres_url))
    async with engine.connect() as connection:
        await connection.exec_driver_sql("SELECT 1")
        keeping, keeper = await _in_transaction(
            empty_postgres_url, f"SELECT pg_advisory_xact_lock({migrations.UPGRADE_LOCK})"
        )
        # On a connection of the caller's it waits for the lock as long as the caller set: forever.
        change = asyncio.create_task(schema.upgrade(connection))
        await asyncio.sleep(0.5)
        async with asyncio.timeout(SOON), open_store(f"sqlite:///{tmp_path}/new.db", retry_seconds=0.5):
            assert not change.done()
        await keeper.close()
        await asyncio.wait_for(change, 60)
    await keeping.dispose()
    await engine.dispose()


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_child_that_is_forked_during_an_upgrade_can_open_a_file(tmp_path: Path) -> None:
    holder = sqlite3.connect(tmp_path / "locked.db", isolation_level=None)
    holder.execute("PRAGMA journal_mode = WAL")
    holder.execute("BEGIN IMMEDIATE")
    change = threading.Thread(target=lambda: asyncio.run(schema.upgrade(f"sqlite:///{tmp_path}/locked.db")))
    change.start()
    # It holds the lock for most of the time that it waits.
    children = []
    for number in range(4):
        time.sleep(0.5)
        children.append(os.fork())
        if children[-1] == 0:
            signal.alarm(120)
            asyncio.run(schema.upgrade(f"sqlite:///{tmp_path}/{number}.db"))
            os._exit(42)
    ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    holder.close()
    change.join()
    assert ended == [42] * 4
