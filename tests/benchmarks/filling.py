"""Putting many rows into an empty database: without indexes, which are made afterwards, and without a journal."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, closing
from typing import Any, Final

import asyncpg
import sqlalchemy as sa

from taskctx_sql.sql import engines

Row = tuple[Any, ...]
Insert = Callable[[sa.Table, Iterable[Row]], Awaitable[None]]
Say = Callable[[str], None]

# Where a key's index has its pages, which rows reach in no order, in kB: they are read and written again without it.
_CACHE: Final = 1_000_000
_INDEXES: Final = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND name LIKE 'taskctx%' AND sql IS NOT NULL",
    "postgres": (
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indrelid::regclass::text LIKE 'taskctx%' AND NOT indisprimary"
    ),
}
_KEYS: Final = (
    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE contype = 'p' AND conrelid::regclass::text LIKE 'taskctx%'"
)


@asynccontextmanager
async def filling(url: str, say: Say = lambda _: None) -> AsyncIterator[Insert]:
    """Yield what puts rows with a value for each of a table's columns into it.

    Args:
        url: The database, which nobody else uses. If it is left by an error, it is of no use any more.
        say: Is told what is being done.
    """
    parsed = engines.parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(parsed.database), isolation_level=None)) as connection:
            async with _filling_sqlite(connection, say) as insert:
                yield insert
        return
    server = await asyncpg.connect(url)
    try:
        async with _filling_postgres(server, say) as insert:
            yield insert
    finally:
        await server.close()


@asynccontextmanager
async def _filling_sqlite(connection: sqlite3.Connection, say: Say) -> AsyncIterator[Insert]:
    async def insert(table: sa.Table, rows: Iterable[Row]) -> None:
        say(f"rows of {table.name}")
        names = ", ".join(f'"{column.name}"' for column in table.columns)
        marks = ", ".join("?" * len(table.columns))
        connection.execute("BEGIN")
        connection.executemany(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", rows)
        connection.execute("COMMIT")

    indexes = connection.execute(_INDEXES["sqlite"]).fetchall()
    for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE}"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}")
    yield insert
    for name, definition in indexes:
        say(f"index {name}")
        connection.execute(definition)
    connection.execute("PRAGMA journal_mode = WAL").fetchall()


@asynccontextmanager
async def _filling_postgres(server: Any, say: Say) -> AsyncIterator[Insert]:
    async def insert(table: sa.Table, rows: Iterable[Row]) -> None:
        say(f"rows of {table.name}")
        await server.copy_records_to_table(
            table.name, records=rows, columns=[column.name for column in table.columns], timeout=None
        )

    keys, indexes = await server.fetch(_KEYS), await server.fetch(_INDEXES["postgres"])
    await server.execute(f"SET synchronous_commit = off; SET maintenance_work_mem = '{_CACHE // 2}kB'")
    for table, name, _ in keys:
        await server.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    for name, _ in indexes:
        await server.execute(f"DROP INDEX {name}")
    yield insert
    for table, name, definition in keys:
        say(f"index {name}")
        await server.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")
    for name, definition in indexes:
        say(f"index {name}")
        await server.execute(definition)
    say("statistics")
    await settle(server)


async def settle(server: Any) -> None:
    """Leave a Postgres as it is some time after much was written."""
    await server.execute("VACUUM ANALYZE")
