"""Engines of the library's own, checks of a caller's, and transactions on any."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.exc import NoSuchModuleError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import StaticPool

from taskctx_sql.errors import InvalidDatabaseUrlError, MissingDriverError
from taskctx_sql.model import DEFAULT_CONNECTION, ConnectionOptions
from taskctx_sql.sql.engines import parameters
from taskctx_sql.sql.engines.addresses import is_memory, mask
from taskctx_sql.sql.engines.postgres import create_postgres_engine
from taskctx_sql.sql.engines.sqlite import create_sqlite_engine, is_sqlite

# An option of an engine: its connections have this isolation while a store uses them.
_READ_COMMITTED: Final = "taskctx_read_committed"


def create_engine(
    url: sa.URL,
    options: ConnectionOptions = DEFAULT_CONNECTION,
    *,
    transaction_pooling: bool = False,
    connect_seconds: float | None = None,
    lock_seconds: float | None = None,
) -> AsyncEngine:
    """Return an engine with the settings that the guarantees depend on, or raise MissingDriverError.

    With ``transaction_pooling``, which the URL may set too, a pooler may give each transaction another connection of
    the server: then nothing may outlive a transaction, prepared statements least of all. ``connect_seconds`` is the
    most that a host gets to accept a connection, ``lock_seconds`` how long a lock is waited for unless the options say.
    """
    try:
        if url.get_backend_name() == "sqlite":
            return create_sqlite_engine(url, options, lock_seconds)
        return create_postgres_engine(
            url,
            options,
            transaction_pooling=transaction_pooling,
            connect_seconds=connect_seconds,
            lock_seconds=lock_seconds,
        )
    except (ImportError, NoSuchModuleError) as error:
        raise MissingDriverError("Postgres", parameters.EXTRAS[url.drivername]) from error


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


def check_pool(engine: AsyncEngine) -> None:
    """Raise InvalidDatabaseUrlError if each connection would have a database in memory of its own."""
    url, pool = engine.url, engine.sync_engine.pool
    is_private = is_sqlite(engine) and is_memory(url) and "cache=shared" not in str(url)
    if is_private and not isinstance(pool, StaticPool):
        pooled = f"with a {type(pool).__name__} each connection has a database in memory of its own"
        raise InvalidDatabaseUrlError(mask(url), f"{pooled}: create the engine with StaticPool")


async def check_transactions(connection: AsyncConnection) -> None:
    """Raise InvalidDatabaseUrlError if the driver commits each statement. Call it in a transaction, as the first."""
    if is_sqlite(connection) and not await connection.run_sync(_can_roll_back):
        reason = "its driver is set to autocommit=True, so nothing would be a transaction: leave that setting out"
        raise InvalidDatabaseUrlError(mask(connection.engine.url), reason)


def _can_roll_back(connection: sa.Connection) -> bool:
    # Since Python 3.12: with autocommit=True the driver's commit() and rollback() do nothing.
    connection.connection.rollback()
    driver: Any = connection.connection.driver_connection
    if driver.in_transaction:
        return False
    begin_on_sqlite(connection, "BEGIN")
    return True


class Turns(NamedTuple):
    """Locks that let one task at a time write to an engine, or read from it; None where that is not needed."""

    write: asyncio.Lock | None
    read: asyncio.Lock | None


# By pool, since an engine derived from another one, with options of its own, has the pool of that one.
_turns: Final[WeakKeyDictionary[sa.Pool, tuple[asyncio.AbstractEventLoop, Turns]]] = WeakKeyDictionary()


def turns(engine: AsyncEngine) -> Turns:
    """Return the locks of an engine, the same for all stores on it in one event loop.

    One writer at a time is faster than several that compete for a SQLite file. Where all share one connection, they
    share its transaction too, so reads take turns as well.
    """
    pool, loop = engine.sync_engine.pool, asyncio.get_running_loop()
    known = _turns.get(pool)
    if known is not None and known[0] is loop:
        return known[1]
    shared = isinstance(pool, StaticPool)
    write = asyncio.Lock() if shared or is_sqlite(engine) else None
    new = Turns(write, write if shared or (write is not None and is_memory(engine.url)) else None)
    _turns[pool] = (loop, new)
    return new
