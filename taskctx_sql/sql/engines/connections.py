"""Engines of the library's own, and transactions on any engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from taskctx_sql.errors import MissingDriverError
from taskctx_sql.sql.engines.postgres import create_postgres_engine
from taskctx_sql.sql.engines.sqlite import create_sqlite_engine, is_sqlite

# An option of an engine: its connections have this isolation while a store uses them.
_READ_COMMITTED: Final = "taskctx_read_committed"


def create_engine(
    url: sa.URL,
    *,
    transaction_pooling: bool = False,
    connect_seconds: float | None = None,
    lock_seconds: float | None = None,
) -> AsyncEngine:
    """Return an engine with the settings that the guarantees depend on.

    Args:
        url: What to connect to.
        transaction_pooling: Whether a pooler may give each transaction another connection of the server: then nothing
            may outlive a transaction, prepared statements least of all. The URL may set it too.
        connect_seconds: On Postgres, how long connecting may take.
        lock_seconds: How long a statement may wait for somebody else's lock.

    Raises:
        MissingDriverError: Its driver is not installed.
    """
    try:
        if url.get_backend_name() == "sqlite":
            return create_sqlite_engine(url, lock_seconds)
        return create_postgres_engine(
            url, transaction_pooling=transaction_pooling, connect_seconds=connect_seconds, lock_seconds=lock_seconds
        )
    except (ImportError, NoSuchModuleError) as error:
        raise MissingDriverError("Postgres", "postgres") from error


@asynccontextmanager
async def transaction(engine: AsyncEngine, *, write: bool) -> AsyncIterator[AsyncConnection]:
    """Yield a connection in a transaction that commits at the end.

    SQLite takes the write lock at the beginning: a transaction that first reads and then writes would fail
    at once if another writer committed in between, whatever the busy timeout.
    """
    async with engine.connect() as connection:
        await set_isolation(connection)
        async with connection.begin():
            if is_sqlite(engine):
                await connection.run_sync(begin_on_sqlite, "BEGIN IMMEDIATE" if write else "BEGIN")
            yield connection


def begin_on_sqlite(connection: sa.Connection, statement: str = "BEGIN IMMEDIATE") -> None:
    """Begin SQLite's own transaction in one of SQLAlchemy's; IMMEDIATE keeps other writers away until its end."""
    driver: Any = connection.connection.driver_connection
    # A caller's engine may have listeners that have begun one already.
    if not driver.in_transaction:
        connection.exec_driver_sql(statement)


def with_read_committed(engine: AsyncEngine) -> AsyncEngine:
    """Return a caller's engine with an isolation that a store can work with; the caller's keeps its own.

    The locks of a save depend on READ COMMITTED, and on a transaction that lasts from its BEGIN to its COMMIT. Both
    engines have the same connections.
    """
    return engine if is_sqlite(engine) else engine.execution_options(**{_READ_COMMITTED: True})


async def set_isolation(connection: AsyncConnection) -> None:
    """Set the isolation of a connection whose engine is from `with_read_committed`, until it is released."""
    # On the connection: an engine's own isolation_level would override the option of an engine derived from it.
    if connection.sync_connection is not None and _READ_COMMITTED in connection.sync_connection.get_execution_options():
        await connection.execution_options(isolation_level="READ COMMITTED")
