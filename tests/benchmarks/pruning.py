"""``python -m tests.benchmarks.pruning [CONTEXTS]``: how fast many small contexts are pruned and copied.

Each context has 7 updates from one save. The limit is the raw driver (stdlib sqlite3 with WAL and FULL, asyncpg), which
deletes or copies the same rows, as many contexts in a transaction, without pauses for writers and without comparing.
Both take turns, and the table has the medians.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
from rich.console import Console
from rich.table import Table

from taskctx_sql import ContextKey, ContextUpdate, open_store, schema
from taskctx_sql.maintenance import prune
from taskctx_sql.model import Delta, Pruned, Retention, Run, Transferred
from taskctx_sql.transfer import copy
from tests.benchmarks import servers

COUNT = 1_000
UPDATES = 7
ROUNDS = 3
AT = 1_700_000_000.0
TABLES = ("updates", "models", "files", "revisions", "runs", "contexts")
# Contexts that the limit deletes and copies in one transaction: ten rows each, in as many as the library takes.
DELETED_AT_ONCE, COPIED_AT_ONCE = 100, 200


def main() -> None:
    """Measure pruning and copying, and print a table."""
    count = int(sys.argv[1].replace(",", "")) if len(sys.argv) > 1 else COUNT
    asyncio.run(_measure(count))


async def _measure(count: int) -> None:
    table = Table("what", "contexts/s", "limit", "ours / limit")
    with tempfile.TemporaryDirectory(prefix="taskctx-pruning-") as name, servers.postgres(None) as server:
        async with servers.databases(server, 2) as (filled, postgres):
            places = Places(Path(name), filled, postgres)
            await places.set_up(count)
            for what, prepare, ours, limit in places.comparisons():
                seconds: list[tuple[float, float]] = []
                for _ in range(ROUNDS):
                    seconds.append((await _timed(prepare, ours, count), await _timed(prepare, limit, count)))
                rate, most = (count / median(side) for side in zip(*seconds, strict=True))
                table.add_row(what, f"{rate:,.0f}", f"{most:,.0f}", f"{rate / most:.2f}")
                Console(stderr=True).print(f"{what}: {rate:,.0f} a second, the limit {most:,.0f}")
    Console().print(table)


async def _timed(prepare: Callable[[], Awaitable[None]], work: Callable[[], Awaitable[int]], count: int) -> float:
    await prepare()
    started = time.perf_counter()
    done = await work()
    seconds = time.perf_counter() - started
    assert done == count
    return seconds


Comparison = tuple[str, Callable[[], Awaitable[None]], Callable[[], Awaitable[int]], Callable[[], Awaitable[int]]]


class Places:
    """Databases with the contexts, and those in which they are pruned or to which they are copied."""

    def __init__(self, folder: Path, filled: str, postgres: str) -> None:
        self.filled_file, self.empty_file = folder / "filled.db", folder / "empty.db"
        self.file = folder / "work.db"
        self.filled, self.postgres = filled, postgres

    async def set_up(self, count: int) -> None:
        for url in (_url(self.empty_file), self.filled, self.postgres):
            await schema.upgrade(url)
        await _fill(_url(self.filled_file), count)
        with closing(sqlite3.connect(self.filled_file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        await _copied(_url(self.filled_file), self.filled)

    def comparisons(self) -> list[Comparison]:
        """What is measured: how it is called, how it is prepared, and both sides."""
        file, filled_file = _url(self.file), _url(self.filled_file)
        return [
            ("prune, SQLite", self._fill_file, lambda: _pruned(file), lambda: _deleted_raw(file)),
            (
                "prune, Postgres",
                self._fill_postgres,
                lambda: _pruned(self.postgres),
                lambda: _deleted_raw(self.postgres),
            ),
            *self._copies("SQLite to SQLite", filled_file, file, self._clear_file),
            *self._copies("SQLite to Postgres", filled_file, self.postgres, self._clear_postgres),
            *self._copies("Postgres to Postgres", self.filled, self.postgres, self._clear_postgres),
        ]

    def _copies(self, what: str, source: str, target: str, clear: Callable[[], Awaitable[None]]) -> list[Comparison]:
        def limit() -> Awaitable[int]:
            return _copied_raw(source, target)

        return [
            (f"copy and compare, {what}", clear, lambda: _copied(source, target), limit),
            (f"copy, {what}", clear, lambda: _copied(source, target, verify=False), limit),
        ]

    async def _fill_file(self) -> None:
        _replace(self.filled_file, self.file)

    async def _clear_file(self) -> None:
        _replace(self.empty_file, self.file)

    async def _clear_postgres(self) -> None:
        connection = await asyncpg.connect(self.postgres)
        await connection.execute(f"TRUNCATE {', '.join(f'taskctx_{name}' for name in TABLES)}")
        await connection.close()

    async def _fill_postgres(self) -> None:
        await self._clear_postgres()
        await _copied_raw(self.filled, self.postgres)


def _url(path: Path) -> str:
    return f"sqlite:///{path}"


def _replace(source: Path, target: Path) -> None:
    for ending in ("-wal", "-shm"):
        target.with_name(target.name + ending).unlink(missing_ok=True)
    shutil.copy(source, target)


async def _fill(url: str, count: int) -> None:
    async with open_store(url) as store:
        for number in range(count):
            text = f"a step: {'some text of a task ' * 12}"
            updates = [ContextUpdate(AT + place, "message", text, {"step": place}) for place in range(UPDATES)]
            key, run = ContextKey(f"u{number % 10}", f"c{number}"), Run(str(uuid.uuid4()), 1, AT)
            await store.save(Delta(key=key, run=run, base=None, at=AT, updates=updates))


# Ours.


async def _pruned(url: str) -> int:
    async with open_store(url) as store:
        pruned: Pruned = await prune(store, Retention(max_age=0))
    return pruned.by_age


async def _copied(source: str, target: str, *, verify: bool = True) -> int:
    result = await copy(source, target, verify=verify)
    assert isinstance(result, Transferred)
    assert result.ok
    return result.outcomes["added"]


# The limit.


class RawFile:
    """A SQLite file by the standard library's driver."""

    def __init__(self, path: str) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")

    async def ids(self) -> list[str]:
        return [row[0] for row in self.connection.execute("SELECT context_id FROM taskctx_contexts ORDER BY 1")]

    async def rows(self, name: str, group: Sequence[str]) -> tuple[list[str], list[Any]]:
        found = self.connection.execute(f"SELECT * FROM taskctx_{name} WHERE {self.GIVEN}", (json.dumps(group),))
        return [column[0] for column in found.description], found.fetchall()

    async def begin(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")

    async def delete(self, name: str, group: Sequence[str]) -> None:
        self.connection.execute(f"DELETE FROM taskctx_{name} WHERE {self.GIVEN}", (json.dumps(group),))

    async def insert(self, name: str, names: Sequence[str], rows: Sequence[Any]) -> None:
        statement = f"INSERT INTO taskctx_{name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
        self.connection.executemany(statement, rows)

    async def commit(self) -> None:
        self.connection.execute("COMMIT")

    async def close(self) -> None:
        self.connection.close()

    GIVEN = "context_id IN (SELECT value FROM json_each(?))"


class RawServer:
    """A Postgres by asyncpg."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    async def ids(self) -> list[str]:
        return [row[0] for row in await self.connection.fetch("SELECT context_id FROM taskctx_contexts ORDER BY 1")]

    async def rows(self, name: str, group: Sequence[str]) -> tuple[list[str], list[Any]]:
        statement = f"SELECT * FROM taskctx_{name} WHERE context_id = ANY ($1)"
        found = await self.connection.fetch(statement, group)
        return list(found[0].keys()) if found else [], [tuple(row) for row in found]

    async def begin(self) -> None:
        await self.connection.execute("BEGIN")

    async def delete(self, name: str, group: Sequence[str]) -> None:
        await self.connection.execute(f"DELETE FROM taskctx_{name} WHERE context_id = ANY ($1)", group)

    async def insert(self, name: str, names: Sequence[str], rows: Sequence[Any]) -> None:
        await self.connection.copy_records_to_table(f"taskctx_{name}", records=rows, columns=names)

    async def commit(self) -> None:
        await self.connection.execute("COMMIT")

    async def close(self) -> None:
        await self.connection.close()


async def _raw(url: str) -> RawFile | RawServer:
    if url.startswith("sqlite"):
        return RawFile(url.removeprefix("sqlite:///"))
    return RawServer(await asyncpg.connect(url))


async def _deleted_raw(url: str) -> int:
    raw = await _raw(url)
    ids = await raw.ids()
    for group in _groups(ids, DELETED_AT_ONCE):
        await raw.begin()
        for name in TABLES:
            await raw.delete(name, group)
        await raw.commit()
    await raw.close()
    return len(ids)


async def _copied_raw(source: str, target: str) -> int:
    reading, writing = await _raw(source), await _raw(target)
    ids = await reading.ids()
    for group in _groups(ids, COPIED_AT_ONCE):
        await writing.begin()
        for name in TABLES:
            names, rows = await reading.rows(name, group)
            if rows:
                await writing.insert(name, names, rows)
        await writing.commit()
    await reading.close()
    await writing.close()
    return len(ids)


def _groups(ids: list[str], size: int) -> list[list[str]]:
    return [ids[start : start + size] for start in range(0, len(ids), size)]


if __name__ == "__main__":
    main()
