"""Faults of a disk and of a SQLite file under an open store: each has its error, and passes."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskctx_sql import ContextKey, SqlStore, open_store
from taskctx_sql.errors import LostContextError, StoreError, StoreFailedError, TaskContextError
from taskctx_sql.sql import engines
from tests.support.contract import expect_reload, loaded, new_delta, stored
from tests.support.faults import FaultyStore
from tests.support.waiting import SOON

KEY = ContextKey("u", "c")


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """The connections that a store makes, to be set to what a bad disk would do."""
    made: list[sqlite3.Connection] = []
    connect = engines.connect_sqlite

    def noted(path: str, lock_seconds: float | None = None) -> sqlite3.Connection:
        made.append(connect(path, lock_seconds))
        return made[-1]

    monkeypatch.setattr(engines, "connect_sqlite", noted)
    return made


@pytest.fixture
async def store(tmp_path: Path, connections: list[sqlite3.Connection]) -> AsyncIterator[SqlStore]:
    async with open_store(f"sqlite:///{tmp_path}/x.db", retry_seconds=2) as opened:
        assert isinstance(opened, SqlStore)
        yield opened


async def test_a_full_disk_loses_nothing_and_saving_goes_on_when_there_is_room(
    store: SqlStore, connections: list[sqlite3.Connection]
) -> None:
    full, small = await loaded(store, "u", "full"), await loaded(store, "u", "small")
    for context in (full, small):
        context.add_context_update("message", "before")
        await context.save()
    # Reading made a connection, and then writing one.
    pages = connections[-1].execute("PRAGMA page_count").fetchone()[0]
    connections[-1].execute(f"PRAGMA max_page_count = {pages + 20}")
    full.add_context_update("message", "x" * 1_000_000)
    small.add_context_update("message", "fits")
    ends = await asyncio.gather(full.save(), small.save(), return_exceptions=True)
    assert isinstance(ends[0], StoreFailedError)
    assert "the disk is full: nothing that was saved is lost" in str(ends[0])
    assert ends[1] == 2
    assert await stored(store, full.key) == ["before"]
    for connection in connections:
        with contextlib.suppress(sqlite3.ProgrammingError):
            connection.execute("PRAGMA max_page_count = 1000000")
    await full.save()
    for context in (full, small):
        await expect_reload(store, context)


async def test_a_save_in_doubt_that_no_longer_fits_can_be_made_smaller(
    store: SqlStore, connections: list[sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty = FaultyStore(store)
    context = await loaded(faulty, "u")
    context.add_context_update("message", "before")
    await context.save()
    pages = connections[-1].execute("PRAGMA page_count").fetchone()[0]
    connect = engines.connect_sqlite

    def limited(path: str, lock_seconds: float | None = None) -> sqlite3.Connection:
        connection = connect(path, lock_seconds)
        connection.execute(f"PRAGMA max_page_count = {pages + 20}")
        return connection

    monkeypatch.setattr(engines, "connect_sqlite", limited)
    connections[-1].execute(f"PRAGMA max_page_count = {pages + 20}")
    context.add_context_update("message", "x" * 1_000_000)
    faulty.faults = ["lost before"]
    with pytest.raises(StoreFailedError):
        await context.save()
    with pytest.raises(StoreFailedError, match="the disk is full"):
        await context.save()
    del context.context_history[1]
    context.add_context_update("message", "fits")
    await context.save()
    assert await stored(store, context.key) == ["before", "fits"]


async def test_a_file_that_can_only_be_read_is_an_error_that_says_so(
    store: SqlStore, connections: list[sqlite3.Connection]
) -> None:
    context = await loaded(store, "u")
    context.add_context_update("message", 1)
    await context.save()
    connections[-1].execute("PRAGMA query_only = ON")
    context.add_context_update("message", 2)
    with pytest.raises(StoreFailedError, match="check the permissions"):
        await context.save()
    assert await stored(store, context.key) == [1]
    await context.save()
    await expect_reload(store, context)


@pytest.mark.parametrize("path", ["missing/x.db", "x.db/y.db"])
async def test_a_path_where_no_file_can_be_is_an_error_with_the_remedy(tmp_path: Path, path: str) -> None:
    (tmp_path / "x.db").write_text("a file")
    with pytest.raises(StoreFailedError, match="check that the folder exists"):
        await open_store(f"sqlite:///{tmp_path}/{path}")


async def test_a_file_removed_under_the_store_is_never_acknowledged(store: SqlStore, tmp_path: Path) -> None:
    context = await loaded(store, "u")
    context.add_context_update("message", 1)
    await context.save()
    files = [path for path in tmp_path.iterdir() if path.name.startswith("x.db")]
    kept = tmp_path / "kept"
    kept.mkdir()
    for path in files:
        path.rename(kept / path.name)
    context.add_context_update("message", 2)
    with pytest.raises(StoreFailedError, match="removed or replaced"):
        await context.save()
    with pytest.raises(StoreFailedError, match="check that the folder exists"):
        await context.save()
    with pytest.raises(StoreError):
        await store.load(context.key)
    assert not (tmp_path / "x.db").exists(), "an empty database was made in its place"
    for path in files:
        (kept / path.name).rename(path)
    await context.save()
    await expect_reload(store, context)
    assert await stored(store, context.key) == [1, 2]


async def test_a_file_replaced_under_the_store_takes_no_half_of_a_context(store: SqlStore, tmp_path: Path) -> None:
    context = await loaded(store, "u")
    context.add_context_update("message", 1)
    await context.save()
    async with open_store(f"sqlite:///{tmp_path}/other.db") as other:
        await other.save(new_delta(KEY, "other"))
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"x.db{suffix}").unlink(missing_ok=True)
    shutil.copy(tmp_path / "other.db", tmp_path / "x.db")
    context.add_context_update("message", 2)
    with pytest.raises(StoreFailedError, match="removed or replaced"):
        await context.save()
    with pytest.raises(LostContextError):
        await context.save()
    assert await stored(store, KEY) == ["other"]
    await context.load()
    await context.save()
    assert await stored(store, context.key) == [2]


async def test_torn_pages_raise_documented_errors_only(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    async with open_store(url) as store:
        for number in range(30):
            await store.save(new_delta(ContextKey("u", str(number)), *["x" * 300] * 20))
    good = (tmp_path / "x.db").read_bytes()
    damaged = 0
    for page in range(1, len(good) // 4096, 7):
        for suffix in ("-wal", "-shm"):
            (tmp_path / f"x.db{suffix}").unlink(missing_ok=True)
        (tmp_path / "x.db").write_bytes(good[: page * 4096] + bytes(2048) + good[page * 4096 + 2048 :])
        try:
            async with open_store(url, retry_seconds=1) as store:
                for number in range(30):
                    key = ContextKey("u", str(number))
                    try:
                        found = await stored(store, key)
                        assert len(found) <= 20
                        await store.save(new_delta(key, "more"))
                    except TaskContextError:
                        damaged += 1
        except TaskContextError:
            damaged += 1
    assert damaged


PROGRAM = """
import asyncio, sys
from taskctx_sql import open_store, TaskContext

async def main():
    async with open_store(sys.argv[1]) as store:
        context = TaskContext({"user_id": sys.argv[2], "chat_id": "c"}, store=store)
        for number in range(100_000):
            context.add_context_update("message", number)
            await context.save()
            print(number, flush=True)

asyncio.run(main())
"""


def test_a_process_that_is_terminated_amid_saves_ends_and_keeps_the_acknowledged_ones(
    database_url: str, user: str
) -> None:
    command = [sys.executable, "-c", PROGRAM, database_url, user]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(50)]
        process.send_signal(signal.SIGTERM)
        said += process.stdout.readlines()
        assert process.wait(SOON) == -signal.SIGTERM
    acknowledged = len([line for line in said if line.endswith("\n")])

    async def found() -> list[int]:
        async with open_store(database_url) as store:
            return await stored(store, ContextKey(user, "c"))

    kept = asyncio.run(found())
    assert kept == list(range(len(kept)))
    assert len(kept) - acknowledged in (0, 1)
