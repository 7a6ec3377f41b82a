"""Work on a connection of a driver of Postgres, past SQLAlchemy's layers but with a connection of its pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, NamedTuple, TypeVar

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

# How many are kept: as many as save and load at the same time in a busy program. The pool has more.
IDLE_CONNECTIONS: Final = 4

# Done on a connection, with no transaction open at the end.
Work = Callable[[engines.Driver], Awaitable[T]]


class Connections:
    """The connections of an engine, for work on its driver. They belong to one event loop.

    On an engine of ours a few that are idle are kept: taking one from SQLAlchemy's pool and returning it costs as much
    as half a small save. They are in nobody's way there.
    """

    def __init__(self, engine: AsyncEngine, schema: str | None, *, pooled: bool, keeps: bool) -> None:
        """Use an engine, which may lead to a pooler in transaction mode (``pooled``), and a schema of choice."""
        self.schema = schema
        self._engine = engine
        self._pooled = pooled
        self._most_idle = engines.most_idle(engine, IDLE_CONNECTIONS) if keeps else 0
        self._idle: list[_Connection] = []

    async def use(self, work: Work[T], until: float | None, *, writes: bool) -> T:
        """Do work on a connection. A server that does not answer is given up ``until`` then, by `time.monotonic`.

        After an error that leaves the state of the connection unknown, it is closed.

        Raises:
            InDoubtError: Work that ``writes`` was given up, and its outcome is unknown.
            ConnectionError: The connection was lost.
        """
        limit = asyncio.timeout(seconds_left(until))
        try:
            async with limit:
                with extended_by(partial(extend_limit, limit)):
                    return await self._use(work)
        except TimeoutError as error:
            if not limit.expired():
                raise
            silent = TimeoutError("the server did not answer in time")
            if writes:
                raise InDoubtError from silent
            raise silent from error

    async def close(self) -> None:
        """Return those that are kept to the pool."""
        self._most_idle = 0
        while self._idle:
            await self._idle.pop().release()

    async def _use(self, work: Work[T]) -> T:
        connection = await self._get()
        try:
            result = await work(connection.driver)
        except TaskContextError:
            # Not the connection's fault.
            await self._put_back(connection)
            raise
        except BaseException as error:
            if connection.driver.is_idle and _is_of_statement(error):
                await self._put_back(connection)
                raise
            lost = connection.driver.is_closed
            # Also when the caller is cancelled meanwhile.
            await shielded(connection.drop())
            if engines.is_failover(error):
                await failover.invalidate_pool(self._engine)
            if lost and isinstance(error, Exception) and not isinstance(error, InDoubtError):
                # Drivers have several errors for a connection that broke, also for its next use.
                raise ConnectionError(str(error)) from error
            raise
        await self._put_back(connection)
        return result

    async def _get(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if engines.is_old(self._engine, connection.pooled):
                # The pool replaces it.
                await connection.release()
                continue
            if not connection.driver.is_closed and connection.generation == failover.generation(self._engine):
                return connection
            await shielded(connection.drop())
        generation = failover.generation(self._engine)
        pooled = await self._engine.raw_connection()
        driver = engines.driver_of(pooled, self._engine.dialect, pooled=self._pooled)
        return _Connection(pooled, driver, generation)

    async def _put_back(self, connection: _Connection) -> None:
        if len(self._idle) < self._most_idle:
            self._idle.append(connection)
        else:
            await connection.release()


def _is_of_statement(error: BaseException) -> bool:
    """Whether the server has refused a statement, and the connection is as good as before."""
    is_final = engines.classify(error) is engines.ErrorClass.FINAL and engines.sqlstate(error) is not None
    return is_final or engines.is_lock_timeout(error)


class _Connection(NamedTuple):
    """A connection that was taken from the pool."""

    pooled: PoolProxiedConnection
    driver: engines.Driver
    generation: int

    async def release(self) -> None:
        """Return it. Nothing is sent to the server."""
        await self.driver.release()
        await greenlet_spawn(self.pooled.close)

    async def drop(self) -> None:
        """Close it."""
        await self.driver.close()
        await greenlet_spawn(self.pooled.invalidate)
        await greenlet_spawn(self.pooled.close)


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
