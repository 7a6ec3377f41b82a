"""A connection for reading or changing a schema."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from taskctx_sql.concurrency import running_loop, shielded
from taskctx_sql.errors import InvalidDatabaseUrlError, NotADatabaseError, StoreFailedError, TaskContextError
from taskctx_sql.sql import engines
from taskctx_sql.sql.retry import Retrying

T = TypeVar("T")

CONNECT_SECONDS: Final = 15.0

Database = str | AsyncEngine | AsyncConnection
# Waits for a lock on a database, given by its URL as it may be shown, and releases it.
Turn = Callable[[str], AbstractAsyncContextManager[None]]


async def on_connection(
    database_url: Database, doing: str, work: Callable[[sa.Connection], T], *, turn: Turn | None = None
) -> T:
    """Return the result of work on a connection; failures of the database become the library's errors.

    ``turn`` is a lock to hold meanwhile. A task that is cancelled waits until the connection is released.
    """
    running_loop(doing)
    return await shielded(_on_connection(database_url, doing, work, turn), cancel=True)


async def _on_connection(
    database_url: Database, doing: str, work: Callable[[sa.Connection], T], turn: Turn | None
) -> T:
    async with _connected(database_url) as connection:
        shown = engines.mask(str(connection.engine.url))
        try:
            async with nullcontext() if turn is None else turn(shown):
                return await connection.run_sync(work)
        except TaskContextError:
            raise
        except Exception as error:
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
        engine = engines.create_engine(engines.parse_url(database_url))
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
    # SQLite does not wait for locks when the first connection to a file changes its journal mode.
    connection = await Retrying(engines.mask(str(engine.url)), CONNECT_SECONDS).run("connect", engine.connect)
    try:
        await engines.set_isolation(connection)
        yield connection
    finally:
        await connection.close()
