"""Work on a connection of a driver of Postgres, past SQLAlchemy's layers but with a connection of its pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

from taskctx_sql.concurrency import shielded
from taskctx_sql.errors import TaskContextError
from taskctx_sql.sql import engines
from taskctx_sql.sql.engines import failover
from taskctx_sql.sql.plan import Plan, execute_on_driver
from taskctx_sql.sql.retry import InDoubtError, extend_limit, extended_by, seconds_left
from taskctx_sql.sql.schema import row_security

T = TypeVar("T")

# Done on a connection, with no transaction open at the end.
Work = Callable[[engines.Driver], Awaitable[T]]


class Place(NamedTuple):
    """Where the tables are: an engine, a schema, and whether the engine leads to a pooler in transaction mode."""

    engine: AsyncEngine
    schema: str | None
    pooled: bool


async def use(place: Place, work: Work[T], until: float | None, *, writes: bool) -> T:
    """Do work on a connection. A server that does not answer is given up ``until`` then, by `time.monotonic`.

    After any error of the driver the connection, whose state is unknown, is closed.

    Raises:
        InDoubtError: Work that ``writes`` was given up, and its outcome is unknown.
        ConnectionError: The connection was lost.
    """
    limit = asyncio.timeout(seconds_left(until))
    try:
        async with limit:
            with extended_by(partial(extend_limit, limit)):
                return await _use(place, work)
    except TimeoutError as error:
        if not limit.expired():
            raise
        silent = TimeoutError("the server did not answer in time")
        if writes:
            raise InDoubtError from silent
        raise silent from error


async def _use(place: Place, work: Work[T]) -> T:
    connection = await place.engine.raw_connection()
    try:
        driver = engines.driver_of(connection.driver_connection, place.engine.dialect, pooled=place.pooled)
        try:
            result = await work(driver)
            await driver.release()
            return result
        except TaskContextError:
            # Not the connection's fault.
            await driver.release()
            raise
        except BaseException as error:
            lost = driver.is_closed
            # Also when the caller is cancelled meanwhile.
            await shielded(_drop(connection, driver))
            if engines.is_failover(error):
                await failover.invalidate_pool(place.engine)
            if lost and isinstance(error, Exception) and not isinstance(error, InDoubtError):
                # Drivers have several errors for a connection that broke, also for its next use.
                raise ConnectionError(str(error)) from error
            raise
    finally:
        # Nothing is sent: the connection is idle, or closed already.
        await greenlet_spawn(connection.close)


async def _drop(connection: PoolProxiedConnection, driver: engines.Driver) -> None:
    await driver.close()
    await greenlet_spawn(connection.invalidate)


@asynccontextmanager
async def transaction(driver: engines.Driver) -> AsyncIterator[None]:
    """Begin a transaction, and commit at the end.

    Raises:
        InDoubtError: COMMIT failed, and whether it happened is unknown.
        Exception: What the driver raises. The transaction stays open, so the connection must not be used again.
        TaskContextError: What the work raises, after a rollback.
    """
    # The locks of a save depend on it, whatever an engine or a server has as its default.
    await driver.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
    try:
        yield
    except TaskContextError:
        await driver.execute("ROLLBACK")
        raise
    try:
        await driver.execute("COMMIT")
    except Exception as error:
        if engines.is_in_doubt_at_commit(error):
            raise InDoubtError from error
        raise


async def execute_in_transaction(plan: Plan[T], schema: str | None, rls_user: str | None, driver: engines.Driver) -> T:
    """Execute a plan in a transaction. Raises as `transaction` does."""
    async with transaction(driver):
        # Under row-level security Postgres refuses COPY.
        return await execute_on_driver(row_security.as_user(plan, rls_user), driver, schema, copies=rls_user is None)


async def execute_to_read(plan: Plan[T], schema: str | None, rls_user: str | None, driver: engines.Driver) -> T:
    """Execute a plan that only reads, in a transaction only if it needs one."""
    if rls_user is not None or not driver.commits_by_itself:
        return await execute_in_transaction(plan, schema, rls_user, driver)
    return await execute_on_driver(plan, driver, schema)
