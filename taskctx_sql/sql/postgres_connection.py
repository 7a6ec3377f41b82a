"""A connection of asyncpg that is held, for work that does not pay for SQLAlchemy's layers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from taskctx_sql.errors import TaskContextError
from taskctx_sql.sql import dialect, failover, tenants
from taskctx_sql.sql.retrying import InDoubtError, seconds_left
from taskctx_sql.store import finish

# How long a server has to answer when a connection is thrown away.
GOODBYE_SECONDS: Final = 1.0


@asynccontextmanager
async def transaction(connection: asyncpg.Connection, named: str | None) -> AsyncIterator[None]:
    """Begin a transaction, name its user if there is one, and commit at the end.

    Raises:
        InDoubtError: COMMIT failed in a way that leaves open if it happened.
        Exception: What the driver raises. The transaction is left as it is, so the connection is to be thrown away.
        TaskContextError: What the work raises; it was rolled back.
    """
    await connection.execute("BEGIN;")
    if named is not None:
        await tenants.name_on(connection, named)
    try:
        yield
    except TaskContextError:
        await connection.execute("ROLLBACK;")
        raise
    try:
        await connection.execute("COMMIT;")
    except Exception as error:
        if dialect.is_in_doubt_at_commit(error):
            raise InDoubtError from error
        raise


class PostgresConnection:
    """One connection out of an engine's pool, taken when it is needed first and kept until it breaks.

    Args:
        engine: Where it comes from; its driver is asyncpg.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        """Take the engine; nothing is opened yet."""
        self._engine = engine
        self._held: AsyncConnection | None = None
        self._driver: asyncpg.Connection | None = None
        self._generation = 0

    @asynccontextmanager
    async def use(self, until: float | None, *, writes: bool) -> AsyncIterator[asyncpg.Connection]:
        """Yield the driver's connection, a new one if there is none that lives. No transaction may be left open.

        Args:
            until: When to give up, by `time.monotonic`: a server that is silent need not be so for ever.
            writes: Whether nobody knows what became of it then.

        Raises:
            InDoubtError: It had to be given up.
            ConnectionError: The connection was lost.
            Exception: What the driver raises. The connection is thrown away: nobody knows what state it is in.
        """
        limit = asyncio.timeout(seconds_left(until))
        try:
            async with limit, self._use() as connection:
                yield connection
        except TimeoutError as error:
            if not limit.expired():
                raise
            silent = TimeoutError("the server did not answer in time")
            if writes:
                raise InDoubtError from silent
            raise silent from error

    @asynccontextmanager
    async def _use(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await self._get()
        try:
            yield connection
        except TaskContextError:
            # Ours, and not the connection's fault.
            raise
        except BaseException as error:
            lost = connection.is_closed()
            # Whoever is cancelled meanwhile, again and again too.
            await finish(self._drop())
            if dialect.tells_of_failover(error):
                await failover.give_up(self._engine)
            if lost and isinstance(error, asyncpg.InterfaceError):
                # Used after it broke, the driver blames its user.
                raise ConnectionError(str(error)) from error
            raise

    async def close(self) -> None:
        """Give the connection back."""
        held, self._held, self._driver = self._held, None, None
        if held is not None:
            await held.close()

    async def _get(self) -> asyncpg.Connection:
        generation = failover.generation(self._engine)
        if self._driver is not None and (self._driver.is_closed() or self._generation != generation):
            await self._drop()
        if self._driver is None:
            self._generation = generation
            self._held = await self._engine.connect()
            raw = await self._held.get_raw_connection()
            driver: asyncpg.Connection | None = raw.driver_connection
            assert driver is not None
            self._driver = driver
        return self._driver

    async def _drop(self) -> None:
        held, self._held, driver, self._driver = self._held, None, self._driver, None
        if held is not None:
            if driver is not None:
                # The server is told to give up what it still does; but it may not answer.
                with contextlib.suppress(Exception):
                    await driver.close(timeout=GOODBYE_SECONDS)
                driver.terminate()
            with contextlib.suppress(Exception):
                await held.invalidate()
            await held.close()
