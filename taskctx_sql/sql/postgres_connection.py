"""A connection of asyncpg that is kept, for work past SQLAlchemy's layers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from taskctx_sql.concurrency import shielded
from taskctx_sql.errors import TaskContextError
from taskctx_sql.sql import engines
from taskctx_sql.sql.engines import failover
from taskctx_sql.sql.plan import Plan, execute_on_asyncpg
from taskctx_sql.sql.retry import InDoubtError, deadline, extended_by, seconds_left
from taskctx_sql.sql.schema import row_security

T = TypeVar("T")

# How long a server has to answer when a connection is closed after an error.
GOODBYE_SECONDS: Final = 1.0


@asynccontextmanager
async def transaction(connection: asyncpg.Connection, rls_user: str | None) -> AsyncIterator[None]:
    """Begin a transaction, set the user of its row-level security if there is one, and commit at the end.

    Raises:
        InDoubtError: COMMIT failed, and whether it happened is unknown.
        Exception: What the driver raises. The transaction stays open, so the connection must not be used again.
        TaskContextError: What the work raises, after a rollback.
    """
    await connection.execute("BEGIN;")
    if rls_user is not None:
        await row_security.set_user_on(connection, rls_user)
    try:
        yield
    except TaskContextError:
        await connection.execute("ROLLBACK;")
        raise
    try:
        await connection.execute("COMMIT;")
    except Exception as error:
        if engines.is_in_doubt_at_commit(error):
            raise InDoubtError from error
        raise


async def execute_in_transaction(plan: Plan[T], rls_user: str | None, connection: asyncpg.Connection) -> T:
    """Execute a plan in a transaction. Raises as `transaction` does."""
    async with transaction(connection, rls_user):
        # Under row-level security Postgres refuses COPY.
        return await execute_on_asyncpg(plan, connection, copies=rls_user is None)


class Alarm:
    """One timer for many timeouts, one after the other, that hardly ever expire.

    With a timer for each, the loop would hold thousands of cancelled ones until their time comes, and saves be slower.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit: asyncio.Timeout | None = None
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def guard(self, limit: asyncio.Timeout, seconds: float | None) -> None:
        """Let a timeout that has begun expire in so many seconds, unless `release` is called before; None: never."""
        if seconds is None:
            return
        self._limit, self._until = limit, self._loop.time() + seconds
        # A timer that comes too early is set again.
        if self._timer is None or self._timer.when() > self._until:
            self.stop()
            self._timer = self._loop.call_at(self._until, self._ring)

    def extend(self, seconds: float) -> None:
        """Let the guarded timeout expire later."""
        self._until += seconds

    def release(self) -> None:
        """Guard no timeout any more."""
        self._limit = None

    def stop(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        self._timer = None
        if self._limit is not None:
            if self._loop.time() < self._until:
                self._timer = self._loop.call_at(self._until, self._ring)
            else:
                self._limit.reschedule(self._until)


class PostgresConnection:
    """A connection of an engine's pool, checked out when it is first needed and kept until it breaks.

    With ``plans_once`` statements are planned once for all parameters, and not for those of each execution.
    """

    def __init__(self, engine: AsyncEngine, *, plans_once: bool = False) -> None:
        self._engine = engine
        self._plans_once = plans_once
        self._held: AsyncConnection | None = None
        self._driver: asyncpg.Connection | None = None
        self._generation = 0
        self._alarm = Alarm()

    async def use(self, work: Callable[[asyncpg.Connection], Awaitable[T]], until: float | None, *, writes: bool) -> T:
        """Do work, which leaves no transaction open, on the driver's connection; on a new one if there is none.

        A server that does not answer is given up ``until`` then, by `time.monotonic`. After any error of the driver the
        connection, whose state is unknown, is closed.

        Raises:
            InDoubtError: Work that ``writes`` was given up, and its outcome is unknown.
            ConnectionError: The connection was lost.
        """
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._alarm.guard(limit, seconds_left(until))
                with extended_by(self._alarm.extend):
                    return await self._use(work)
        except TimeoutError as error:
            if not limit.expired():
                raise
            silent = TimeoutError("the server did not answer in time")
            if writes:
                raise InDoubtError from silent
            raise silent from error
        finally:
            self._alarm.release()

    async def _use(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        try:
            return await work(await self._get())
        except TaskContextError:
            # Not the connection's fault.
            raise
        except BaseException as error:
            lost = self._driver is not None and self._driver.is_closed()
            # Also when the caller is cancelled meanwhile.
            await shielded(self._drop())
            if engines.is_failover(error):
                await failover.invalidate_pool(self._engine)
            if lost and isinstance(error, asyncpg.InterfaceError):
                # What the driver raises when a connection is used after it broke.
                raise ConnectionError(str(error)) from error
            raise

    async def close(self) -> None:
        """Return the connection to the pool."""
        self._alarm.stop()
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
            if self._plans_once:
                await driver.execute("SET plan_cache_mode = force_generic_plan;")
        return self._driver

    async def _drop(self) -> None:
        held, self._held, driver, self._driver = self._held, None, self._driver, None
        if held is not None:
            if driver is not None:
                # This cancels what the server still does; but it may not answer.
                with contextlib.suppress(Exception):
                    await driver.close(timeout=GOODBYE_SECONDS)
                driver.terminate()
            with contextlib.suppress(Exception):
                await held.invalidate()
            await held.close()


async def use_once(engine: AsyncEngine, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    """Do work that writes on a connection of its own. Raises as `PostgresConnection.use` does."""
    held = PostgresConnection(engine)
    try:
        return await held.use(work, deadline(), writes=True)
    finally:
        await held.close()
