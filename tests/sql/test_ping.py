"""Health checks: a store that cannot answer says so soon, and one that can is not blamed for the past."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from taskctx_sql import JsonStore, open_store
from taskctx_sql.errors import StoreError, StoreFailedError, StoreUnavailableError
from tests.support.connections import with_driver
from tests.support.stalling import Stalling
from tests.support.waiting import SOON

DRIVERS = ("asyncpg", "psycopg")


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_postgres_that_is_silent_or_gone_is_reported_in_time(driver: str, postgres_url: str) -> None:
    async with (
        Stalling(postgres_url) as server,
        open_store(with_driver(f"postgresql+{driver}", server.url), retry_seconds=60) as store,
    ):
        await store.ping()
        server.stall()
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="did not answer in time"):
            await store.ping(timeout=0.3)
        assert time.monotonic() - began < SOON
        server.go_on()
        await store.ping()
        # Connections that the pool kept broke: that is past.
        server.cut()
        await store.ping()
        server.cut()
        server.refuse()
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="could not ping"):
            await store.ping()
        assert time.monotonic() - began < SOON


async def test_a_sqlite_file_that_cannot_be_read_is_reported_in_time(tmp_path: Path, sqlite_file: Path) -> None:
    path = tmp_path / "tasks.db"
    shutil.copy(sqlite_file, path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        # Then readers wait for writers, too.
        other.execute("PRAGMA journal_mode = DELETE")
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}", connect_args={"timeout": 2 * SOON})
        async with open_store(engine) as store:
            other.execute("BEGIN EXCLUSIVE")
            began = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="did not answer in time"):
                await store.ping(timeout=0.3)
            assert time.monotonic() - began < SOON
            other.execute("COMMIT")
            await store.ping()
        await engine.dispose()
    async with open_store(f"sqlite:///{path}", retry_seconds=60) as store:
        await store.ping()
        path.unlink()
        began = time.monotonic()
        with pytest.raises(StoreError):
            await store.ping()
        assert time.monotonic() - began < SOON


async def test_a_folder_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    store = JsonStore(tmp_path / "not" / "yet")
    await store.ping()
    (tmp_path / "not").touch()
    with pytest.raises(StoreFailedError, match="ping"):
        await store.ping()
    await store.close()
