"""The drivers of Postgres as they are without SQLAlchemy, whose layers cost more than a small statement and its rows.

Connections come from SQLAlchemy's pool and return to it. Meanwhile they commit each statement by itself, unless it
follows a BEGIN.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from taskctx_sql.sql.engines.sql import driver_dialect

if TYPE_CHECKING:
    import asyncpg
    import psycopg
    from sqlalchemy.pool import PoolProxiedConnection

Rows = Sequence[Sequence[Any]]

# How long a server has to answer when a connection is closed after an error.
GOODBYE_SECONDS: Final = 1.0


class Driver(ABC):
    """A connection of a driver. What its methods raise is the driver's own."""

    # The dialect that compiles statements for it.
    dialect: sa.Dialect
    # Whether it can execute a statement alone. If not, a transaction has to keep the server's connection for it.
    commits_by_itself: bool = True

    @abstractmethod
    async def fetch(self, sql: str, values: Sequence[Any]) -> Rows:
        """Execute a statement, and return its rows."""

    @abstractmethod
    async def execute(self, sql: str) -> None:
        """Execute a statement without parameters and rows."""

    @abstractmethod
    async def execute_many(self, sql: str, rows: Rows) -> None:
        """Execute a statement for each row of parameters."""

    @abstractmethod
    async def copy(self, schema: str | None, table: str, columns: Sequence[str], rows: Rows) -> None:
        """Insert rows with COPY."""

    @property
    @abstractmethod
    def is_closed(self) -> bool:
        """Whether the connection is known to be lost."""

    @property
    @abstractmethod
    def is_idle(self) -> bool:
        """Whether it is open, and no transaction is."""

    @abstractmethod
    async def close(self) -> None:
        """Close it, also in the middle of a statement, which the server cancels if it still answers."""

    @abstractmethod
    async def release(self) -> None:
        """Prepare it for its return to the pool."""


class AsyncpgDriver(Driver):
    """A connection of asyncpg."""

    def __init__(self, connection: asyncpg.Connection, dialect: sa.Dialect, *, pooled: bool) -> None:
        self._connection = connection
        self.dialect = dialect
        # It prepares a statement first and executes it then, and a pooler may change the connection in between.
        self.commits_by_itself: bool = not pooled

    async def fetch(self, sql: str, values: Sequence[Any]) -> Rows:
        """See `Driver.fetch`."""
        rows: list[Any] = await self._connection.fetch(sql, *values)
        return rows

    async def execute(self, sql: str) -> None:
        """See `Driver.execute`."""
        await self._connection.execute(sql)

    async def execute_many(self, sql: str, rows: Rows) -> None:
        """See `Driver.execute_many`."""
        await self._connection.executemany(sql, rows)

    async def copy(self, schema: str | None, table: str, columns: Sequence[str], rows: Rows) -> None:
        """See `Driver.copy`."""
        await self._connection.copy_records_to_table(table, records=rows, columns=columns, schema_name=schema)

    @property
    def is_closed(self) -> bool:
        """See `Driver.is_closed`."""
        return self._connection.is_closed()

    @property
    def is_idle(self) -> bool:
        """See `Driver.is_idle`."""
        return not (self._connection.is_closed() or self._connection.is_in_transaction())

    async def close(self) -> None:
        """See `Driver.close`."""
        with contextlib.suppress(Exception):
            await self._connection.close(timeout=GOODBYE_SECONDS)
        self._connection.terminate()

    async def release(self) -> None:
        """See `Driver.release`."""


class PsycopgDriver(Driver):
    """A connection of psycopg."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], dialect: sa.Dialect, *, pooled: bool) -> None:
        self._connection = connection
        # Kept, since a new one takes a third of what a small statement takes here.
        self._cursor = self._new_cursor()
        self.dialect = dialect
        # Behind a pooler no statement is prepared. None: as the connection is set, after some executions.
        self._prepare = False if pooled else None

    async def fetch(self, sql: str, values: Sequence[Any]) -> Rows:
        """See `Driver.fetch`."""
        await self._autocommit(True)
        cursor = await self._cursor.execute(sql.encode(), values, prepare=self._prepare)
        result = cursor.pgresult
        rows = await cursor.fetchall() if result is not None and result.nfields else ()
        if len(rows) > 1:
            # It would hold them.
            self._cursor = self._new_cursor()
        return rows

    async def execute(self, sql: str) -> None:
        """See `Driver.execute`."""
        await self._autocommit(True)
        await self._cursor.execute(sql.encode(), prepare=False)

    async def execute_many(self, sql: str, rows: Rows) -> None:
        """See `Driver.execute_many`."""
        await self._autocommit(True)
        async with self._connection.cursor() as cursor:
            await cursor.executemany(sql.encode(), rows)

    async def copy(self, schema: str | None, table: str, columns: Sequence[str], rows: Rows) -> None:
        """See `Driver.copy`."""
        from psycopg import sql

        await self._autocommit(True)
        target = sql.Identifier(*([schema, table] if schema else [table]))
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(target, names)
        async with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                await copy.write_row(row)

    @property
    def is_closed(self) -> bool:
        """See `Driver.is_closed`."""
        return self._connection.closed

    @property
    def is_idle(self) -> bool:
        """See `Driver.is_idle`."""
        return not self._connection.closed and self._connection.info.transaction_status == 0

    async def close(self) -> None:
        """See `Driver.close`."""
        with contextlib.suppress(Exception):
            await self._connection.cancel_safe(timeout=GOODBYE_SECONDS)
        await self._connection.close()

    async def release(self) -> None:
        """See `Driver.release`."""
        await self._autocommit(False)

    def _new_cursor(self) -> psycopg.AsyncCursor[Any]:
        return self._connection.cursor()

    async def _autocommit(self, value: bool) -> None:
        # Nothing is sent for it.
        if self._connection.autocommit is not value:
            await self._connection.set_autocommit(value)


def driver_of(connection: PoolProxiedConnection, dialect: sa.Dialect, *, pooled: bool) -> Driver:
    """Return a connection of a pool, whose engine has this dialect, and may lead to a pooler in transaction mode."""
    # SQLAlchemy empties it with each new connection to the server.
    known: dict[Any, Any] = connection.info
    driver: Driver | None = known.get((Driver, pooled))
    if driver is None:
        kind = AsyncpgDriver if dialect.driver == "asyncpg" else PsycopgDriver
        opened: Any = connection.driver_connection
        driver = kind(opened, driver_dialect(dialect.driver), pooled=pooled)
        known[Driver, pooled] = driver
    return driver
