"""What all back ends have in common, and the one whose plans are executed by SQLAlchemy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import cache, partial
from types import ModuleType
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from taskctx_sql.concurrency import finished, shielded
from taskctx_sql.errors import SchemaMissingError, StoreUnavailableError
from taskctx_sql.model import Saved
from taskctx_sql.sql import engines
from taskctx_sql.sql.backends.catch_up import CatchUp
from taskctx_sql.sql.engines import failover
from taskctx_sql.sql.plan import Plan, execute, read_value
from taskctx_sql.sql.retry import InDoubtError, deadline, extend_limit, extended_by, in_turn, seconds_left, within
from taskctx_sql.sql.save import SaveRequest, save, save_all
from taskctx_sql.sql.schema import check, citus, daily_sums, has_tables, row_security, search_index, tables
from taskctx_sql.sql.schema.folding import fold_portion
from taskctx_sql.sql.schema.search_portion import index_portion
from taskctx_sql.sql.watch import Listener, Notifier, listener_of, notify

T = TypeVar("T")

# What is brought up to date after saves, and what does a portion of it.
_CATCHING_UP: Final = (("search index", search_index, index_portion), ("daily sums", daily_sums, fold_portion))


class Backend:
    """One attempt at each kind of work on a database, in a transaction of its own; the store repeats those that fail.

    This class serves SQLite on an engine of the caller's and in memory. `SqliteBackend` serves a file on an engine of
    ours, and `PostgresBackend` each Postgres. A back end belongs to one event loop.

    A write that is under way is finished when its caller is cancelled; a read ends at once.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        schema: str | None,
        retry_seconds: float,
        *,
        transaction_pooling: bool = False,
        owns_engine: bool = True,
    ) -> None:
        self.database_url: str = engines.mask(engine.url)
        self.retry_seconds = retry_seconds
        # Whether this account sees one user's rows at a time. Set by `check`.
        self.row_level_security: bool = False
        # Whether the tables are spread over the machines of a Citus. Set by `check`.
        self.is_distributed: bool = False
        self.owns_engine = owns_engine
        if not owns_engine:
            engine = engines.with_read_committed(engine)
        self.schema = schema
        self.engine: AsyncEngine = engine.execution_options(schema_translate_map={None: schema}) if schema else engine
        self.engine_name: str = engine.dialect.name
        self.listener: Listener | None = listener_of(engine, transaction_pooling=transaction_pooling)
        self._turns = engines.turns(engine)
        self._notifier = Notifier(self._notify)
        # What brings the search index and the daily sums up to date after saves, where they are.
        self._catching_up = [
            CatchUp(name, partial(self._catch_up, portion), partial(self._find, part))
            for name, part, portion in _CATCHING_UP
        ]
        # What goes on although its caller was cancelled.
        self._left: set[asyncio.Future[Any]] = set()
        # What `close` calls, the last one first.
        self._parts: list[Callable[[], Awaitable[None]]] = []
        if owns_engine:
            self._parts.append(partial(engines.dispose, engine))
        self._parts += [catch_up.close for catch_up in self._catching_up]

    def save(self, request: SaveRequest) -> Awaitable[Saved]:
        """Save; the result is there when it is on the disk.

        Raises:
            InDoubtError: COMMIT failed, and whether it happened is unknown.
            Exception: What the driver raised; nothing was written.
            TaskContextError: The save is refused; nothing was written.
        """
        return self.write(save(request), request.rls_user)

    def save_all(self, requests: Sequence[SaveRequest]) -> Awaitable[list[Saved]]:
        """Save to different contexts in one transaction, all or nothing. Raises as `save` does."""
        # Plans are executed for one user; only Postgres has row-level security, and it has a function for this.
        return self.write(save_all(requests), None)

    def read(self, plan: Plan[T], rls_user: str | None) -> Awaitable[T]:
        """Execute a plan that only reads. Raises what the driver or the plan raises."""
        return self.query(partial(execute, plan), rls_user)

    async def write(self, plan: Plan[T], rls_user: str | None) -> T:
        """Execute a plan in one transaction. Raises as `save` does."""
        # The thread of a driver of SQLite cannot be interrupted.
        return await finished(self._in_transaction(partial(execute, plan), rls_user, write=True), self._left)

    async def query(self, work: Callable[[AsyncConnection], Awaitable[T]], rls_user: str | None) -> T:
        """Return the result of work that only reads, on a connection of SQLAlchemy's. Raises as `read` does."""
        if self.engine_name != "sqlite":
            return await shielded(self._in_transaction(work, rls_user, write=False), cancel=True)
        used: list[AsyncConnection] = []

        async def work_on(connection: AsyncConnection) -> T:
            used.append(connection)
            try:
                return await work(connection)
            finally:
                used.clear()

        try:
            # A driver whose call is cancelled leaves its thread with a statement.
            return await finished(self._in_transaction(work_on, rls_user, write=False), self._left)
        except asyncio.CancelledError:
            for connection in used:
                engines.interrupt(connection)
            raise

    async def ping(self, seconds: float) -> None:
        """Read the schema's revision once, and wait no longer for a lock; raise StoreUnavailableError if it fails."""
        began = time.monotonic()
        with within(seconds):
            while True:
                try:
                    await self.read(read_value(_select_revision(), {}), None)
                    return
                except Exception as error:
                    # A connection that broke while the pool kept it says nothing about the server: the next one is
                    # tried. The subclasses of this error are failures to connect.
                    if type(error) is not ConnectionError:
                        waited = time.monotonic() - began
                        reason = engines.reason(error)
                        raise StoreUnavailableError("ping", self.database_url, waited, reason) from error

    def notify(self, context_id: str) -> None:
        """Let those who watch a context in other processes know soon that it has grown."""
        # On SQLite they see it in the file itself.
        if self.engine_name != "sqlite":
            self._notifier.notify(context_id)

    def catch_up(self) -> None:
        """Bring the search index and the daily sums up to date soon, where they are."""
        for part in self._catching_up:
            part.note()

    async def check(self) -> bool:
        """Check that the schema is the one needed; return False for a SQLite file that is empty."""
        engines.prepare_file(self.engine.url)
        return await self.query(self._check, None)

    async def close(self) -> None:
        """Finish what was accepted, and release everything. An engine of the caller's stays open."""
        # If one fails, the others are closed all the same.
        async with AsyncExitStack() as parts:
            for close in (*self._parts, self._notifier.close, self._finish_left):
                parts.push_async_callback(close)

    def abandon(self) -> None:
        """End without being waited for, when a store was never closed. Callable from any thread."""

    async def _check(self, connection: AsyncConnection) -> bool:
        await engines.check_transactions(connection)
        try:
            await connection.run_sync(check, self.schema, self.database_url)
        except SchemaMissingError:
            if not engines.is_sqlite(connection) or await connection.run_sync(has_tables):
                raise
            return False
        self.is_distributed = await connection.run_sync(citus.is_distributed, self.schema)
        self.row_level_security = await connection.run_sync(row_security.is_active, self.schema)
        for catch_up, (_, part, _) in zip(self._catching_up, _CATCHING_UP, strict=True):
            catch_up.is_there = await connection.run_sync(part.is_there, self.schema)
        return True

    async def _catch_up(self, portion: Callable[[str, str | None, int], Plan[int]], most: int) -> int:
        with within(self.retry_seconds):
            return await self.write(portion(self.engine_name, self.schema, most), None)

    async def _find(self, part: ModuleType) -> bool:
        async def find(connection: AsyncConnection) -> bool:
            return bool(await connection.run_sync(part.is_there, self.schema))

        with within(self.retry_seconds):
            return await self.query(find, None)

    async def _finish_left(self) -> None:
        if self._left:
            await asyncio.wait(list(self._left))

    async def _notify(self, payload: str) -> None:
        with within(self.retry_seconds):
            await self.read(notify(payload), None)

    async def _in_transaction(
        self, work: Callable[[AsyncConnection], Awaitable[T]], rls_user: str | None, *, write: bool
    ) -> T:
        committing = False
        # SQLite itself limits how long it waits, and its driver cannot be interrupted.
        limit = asyncio.timeout(None if self.engine_name == "sqlite" else seconds_left(deadline()))
        async with in_turn(self._turns.write if write else self._turns.read):
            try:
                async with limit, engines.transaction(self.engine, write=write) as connection:
                    try:
                        if rls_user is not None:
                            await row_security.set_user(connection, rls_user)
                        with extended_by(partial(extend_limit, limit)):
                            result = await work(connection)
                    except Exception as error:
                        await failover.drop_broken(connection, error)
                        raise
                    committing = write
                return result
            except Exception as error:
                cause = TimeoutError("the server did not answer in time") if limit.expired() else error
                if committing and engines.is_in_doubt_at_commit(cause):
                    raise InDoubtError from cause
                if cause is not error:
                    raise cause from error
                raise


@cache
def _select_revision() -> sa.Select[*tuple[Any, ...]]:
    return sa.select(tables.version(None).c.version_num)
