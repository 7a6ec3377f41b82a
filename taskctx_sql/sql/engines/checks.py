"""What an engine of the caller's must be like, and what the stores on one engine have in common."""

from __future__ import annotations

import asyncio
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import StaticPool

from taskctx_sql.errors import InvalidDatabaseUrlError
from taskctx_sql.sql.engines import dialect


class Turns(NamedTuple):
    """Locks that let one at a time use an engine, where that is needed."""

    write: asyncio.Lock | None
    read: asyncio.Lock | None


# Stores come and go; those on one engine share its connections, and so the turns. By pool, since an engine with
# options of its own has the pool of the engine that it comes from.
_turns: Final[WeakKeyDictionary[sa.Pool, tuple[asyncio.AbstractEventLoop, Turns]]] = WeakKeyDictionary()


def turns(engine: AsyncEngine) -> Turns:
    """Return the turns of an engine, the same for all stores on it in one event loop.

    One writer at a time does more than several that fight for a SQLite file. Where all share one connection, a
    transaction is everybody's, so readers wait as well.
    """
    pool, loop = engine.sync_engine.pool, asyncio.get_running_loop()
    known = _turns.get(pool)
    if known is not None and known[0] is loop:
        return known[1]
    shared = isinstance(pool, StaticPool)
    write = asyncio.Lock() if shared or dialect.is_sqlite(engine) else None
    made = Turns(write, write if shared or (write is not None and dialect.is_memory(engine.url)) else None)
    _turns[pool] = (loop, made)
    return made


def with_transactions(engine: AsyncEngine) -> AsyncEngine:
    """Return the engine with real transactions, whatever the caller's other work on it is set to.

    The locks of a save rest on READ COMMITTED, and on a transaction that lasts from its BEGIN to its COMMIT. The
    engine that is returned has the same connections, and the caller's keeps its own setting.
    """
    return engine if dialect.is_sqlite(engine) else engine.execution_options(**{dialect.READ_COMMITTED: True})


def check_pool(engine: AsyncEngine) -> None:
    """See that all connections of an engine lead to one database.

    Raises:
        InvalidDatabaseUrlError: They are of a database in memory, and each connection has one of its own.
    """
    url = engine.url
    if not dialect.is_sqlite(engine) or not dialect.is_memory(url) or "cache=shared" in str(url):
        return
    if not isinstance(engine.sync_engine.pool, StaticPool):
        pool = type(engine.sync_engine.pool).__name__
        reason = f"with a {pool} each connection has a database in memory of its own: make the engine with StaticPool"
        raise InvalidDatabaseUrlError(dialect.mask(str(url)), reason)


async def check_transactions(connection: AsyncConnection) -> None:
    """See that a transaction is one, on a connection where it was begun.

    Raises:
        InvalidDatabaseUrlError: The driver was told to commit each statement by itself.
    """
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    # Python 3.12 and later: then the driver's commit() and rollback() do nothing.
    if dialect.is_sqlite(connection) and getattr(getattr(driver, "_conn", None), "autocommit", None) is True:
        reason = "its driver is set to autocommit=True, so nothing would be a transaction: leave that setting out"
        raise InvalidDatabaseUrlError(dialect.mask(str(connection.engine.url)), reason)
