"""Filling the long sessions, which is not measured, without waiting for the disk at each of thousands of commits."""

from __future__ import annotations

import os
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from tests.benchmarks.frameworks.sides import Side

_MEMORY = Path("/dev/shm")  # a folder of the system's


@asynccontextmanager
async def without_waiting(side: Side) -> AsyncIterator[None]:
    """Open a side in the block so that its commits do not wait for the disk, and afterwards as it is measured.

    A file of SQLite is in memory until it is filled. On Postgres, the database's connections do not wait until then.
    """
    if side.engine != "sqlite":
        connection = await asyncpg.connect(side.url)
        name = await connection.fetchval("SELECT current_database()")
        try:
            await connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
            await side.open()
            yield
            await side.close()
            await connection.execute(f"ALTER DATABASE {name} RESET synchronous_commit")
            # As the server does by itself after a minute. Without it, it reads the 10,000 checkpoints of
            # AsyncPostgresSaver in minutes.
            await connection.execute("VACUUM ANALYZE")
            await connection.execute("CHECKPOINT")
        finally:
            await connection.close()
        await side.open()
        return
    where = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    url = side.url
    with tempfile.TemporaryDirectory(prefix="taskctx-benchmark-", dir=where) as folder:
        path = Path(folder, "filled.db")
        side.url = f"sqlite:///{path}"
        await side.open()
        yield
        await side.close()
        connected = sqlite3.connect(path)
        connected.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        connected.close()
        side.url = url
        _copy(path, Path(side.path))
    await side.open()


def _copy(path: Path, target: Path) -> None:
    shutil.copyfile(path, target)
    with target.open("rb+") as filled:
        # Otherwise the first commits that are measured would wait for all of it.
        os.fsync(filled.fileno())


def describe(side: Side) -> str:
    """Return what a side promises of a commit, as its files and the drivers' defaults say."""
    if side.durability is not None:
        return side.durability
    if side.engine != "sqlite":
        return "the server's synchronous_commit"
    connection = sqlite3.connect(side.path)
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    (default,) = connection.execute("PRAGMA synchronous").fetchone()
    connection.close()
    names = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}
    # None of the sides sets another one: ours sets FULL, and the others leave it at SQLite's default.
    return f"journal_mode {mode}, synchronous {names[2 if side.is_ours else default]}"


def seconds_of_a_sync(folder: Path) -> float:
    """Return how long the disk takes to make 4 kB durable: the median of 30 times."""
    taken = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(30):
            file.write(b"x" * 4096)
            started = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - started)
    return statistics.median(taken)
