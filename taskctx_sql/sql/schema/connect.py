"""A connection for reading or changing a schema."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from taskctx_sql.concurrency import running_loop, shielded
from taskctx_sql.errors import InvalidDatabaseUrlError, NotADatabaseError, StoreFailedError, TaskContextError
from taskctx_sql.sql import engines
from taskctx_sql.sql.retry import Retrying

T = TypeVar("T")

# How long connecting to a file is tried: SQLite does not wait for locks when the first connection to one changes its
# journal mode.
FILE_SECONDS: Final = 15.0
# How long connecting to a server is tried, which may have started together with this program.
SERVER_SECONDS: Final = 5.0

Database = str | AsyncEngine | AsyncConnection


async def on_connection(database_url: Database, doing: str, work: Callable[[sa.Connection], T]) -> T:
    """Return the result of work on a connection; failures of the database become the library's errors.

    A task that is cancelled waits until the connection is released.
    """
    running_loop(doing)
    return await shielded(_on_connection(database_url, doing, work), cancel=True)


async def _on_connection(database_url: Database, doing: str, work: Callable[[sa.Connection], T]) -> T:
    async with _connected(database_url) as connection:
        return await connection.run_sync(on_sync_connection, doing, work)


def on_sync_connection(connection: sa.Connection, doing: str, work: Callable[[sa.Connection], T]) -> T:
    """Return the result of work on a caller's connection, as `on_connection` does."""
    try:
        return work(connection)
    except TaskContextError:
        raise
    except Exception as error:
        shown = engines.mask(connection.engine.url)
        if engines.classify(error) is engines.ErrorClass.NOT_A_DATABASE:
            raise NotADatabaseError(shown) from error
        raise StoreFailedError(doing, shown, engines.reason(error)) from error


@asynccontextmanager
async def _connected(database_url: Database) -> AsyncIterator[AsyncConnection]:
    """Yield a connection. An engine or a connection of the caller's is left open."""
    if isinstance(database_url, AsyncConnection):
        yield database_url
    elif isinstance(database_url, AsyncEngine):
        # A schema is changed in transactions, and where all share one connection they take turns.
        async with (
            engines.turns(database_url).write or nullcontext(),
            _opened(engines.with_read_committed(database_url)) as connection,
        ):
            yield connection
    elif isinstance(database_url, str):
        engine = engines.create_engine(engines.parse_url(database_url), connect_seconds=SERVER_SECONDS)
        try:
            async with _opened(engine) as connection:
                yield connection
        finally:
            await engines.dispose(engine)
    else:
        raise InvalidDatabaseUrlError("***", f"it is a {type(database_url).__name__}")


@asynccontextmanager
async def _opened(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    engines.prepare_file(engine.url)
    address = engines.mask(engine.url)

    async def connect() -> AsyncConnection:
        try:
            return await engine.connect()
        except Exception as error:
            # Whoever sets up a database names it anew, and often wrongly.
            if engines.is_unknown_host(error):
                raise StoreFailedError("connect", address, f"{engines.reason(error)}: check the host") from error
            raise

    seconds = FILE_SECONDS if engines.is_sqlite(engine) else SERVER_SECONDS
    connection = await Retrying(address, seconds).run("connect", connect)
    try:
        await engines.set_isolation(connection)
        yield connection
    finally:
        await connection.close()
