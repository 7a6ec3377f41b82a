"""Connections to SQLite end with their locks and their threads, however they end."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from taskctx_sql import open_store
from taskctx_sql.errors import InvalidDatabaseUrlError
from taskctx_sql.sql import engines


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}


async def test_a_connection_that_is_invalidated_with_an_open_cursor_releases_its_lock(tmp_path: Path) -> None:
    engine = engines.create_engine(engines.parse_url(f"sqlite:///{tmp_path}/x.db"))
    async with engine.connect() as connection:
        await connection.exec_driver_sql("CREATE TABLE numbers (number)")
        await connection.exec_driver_sql("INSERT INTO numbers VALUES (1), (2), (3)")
        await connection.commit()
        await connection.exec_driver_sql("BEGIN IMMEDIATE")
        rows = await connection.stream(sa.text("SELECT number FROM numbers"))
        await rows.fetchone()
        await connection.invalidate()
        other = sqlite3.connect(tmp_path / "x.db", timeout=0)
        other.execute("DELETE FROM numbers")
        other.close()
        await rows.close()
    await engine.dispose()


async def test_no_thread_is_left_however_early_connecting_is_cancelled(tmp_path: Path) -> None:
    before = _threads()
    for turns in range(12):
        engine = engines.create_engine(engines.parse_url(f"sqlite:///{tmp_path}/x.db"))
        connecting: asyncio.Future[Any] = asyncio.ensure_future(engine.connect().start())
        for _ in range(turns):
            await asyncio.sleep(0)
        connecting.cancel()
        results = await asyncio.gather(connecting, return_exceptions=True)
        for connection in results:
            if not isinstance(connection, BaseException):
                await connection.close()
        await engines.dispose(engine)
        assert _threads() <= before


class _Autocommit(sqlite3.Connection):
    """What the driver does with autocommit=True, which Python 3.11 does not have."""

    def commit(self) -> None:
        pass

    def rollback(self) -> None:
        pass


async def test_a_driver_that_commits_each_statement_is_refused(tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/x.db", connect_args={"factory": _Autocommit})
    with pytest.raises(InvalidDatabaseUrlError, match="autocommit"):
        await open_store(engine)
    await engine.dispose()


async def test_a_connection_that_is_closed_between_a_statement_and_its_rows_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    engine = engines.create_engine(engines.parse_url(f"sqlite:///{path}"))
    pooled = await engine.raw_connection()
    driver: Any = pooled.driver_connection
    pooled.detach()
    await driver.execute("CREATE TABLE t (x)")
    # As in the traceback of a call that was cancelled.
    cursor = await driver.cursor()
    await cursor.execute("INSERT INTO t VALUES (1), (2) RETURNING x")
    await driver.close()
    other = sqlite3.connect(path, timeout=0, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("ROLLBACK")
    other.close()
    del cursor
    await engine.dispose()
