"""An open database: what every call of a store checks first, and its attempts on the back end and the replica."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from taskctx_sql import observing
from taskctx_sql.concurrency import finished
from taskctx_sql.errors import RowLevelSecurityError, StoreClosedError
from taskctx_sql.model import ContextKey
from taskctx_sql.sql.backends import NEVER, Replica, Share
from taskctx_sql.sql.home import Home
from taskctx_sql.sql.plan import Plan
from taskctx_sql.sql.retry import Retrying
from taskctx_sql.sql.row_codec import AnyRow
from taskctx_sql.sql.schema import row_security
from taskctx_sql.sql.watch import Subscriptions

T = TypeVar("T")


class OpenDatabase:
    """What the calls of an `SqlStore` have in common; it belongs to one event loop and process."""

    def __init__(self, share: Share, *, replica: Replica | None = None, strict: bool = False) -> None:
        """Use an open back end, and a replica, which are closed with the store; `SqlStore.open` opens them."""
        self._share = share
        self._backend = share.backend
        self._replica, self._strict = replica, strict
        self.database_url: str = self._backend.database_url
        self._retrying = Retrying(self.database_url, self._backend.retry_seconds, self._backend.schema)
        self._subscriptions = Subscriptions(self._backend.listener)
        self._home = Home()
        self._closed = False
        self._closing: asyncio.Future[None] | None = None
        observing.observer().store_opened(self, self._backend.schema, ("query", "read", "write_plan"))

    @property
    def engine_name(self) -> str:
        """Whose SQL the database speaks: "sqlite" or "postgresql"."""
        return self._backend.engine_name

    @property
    def is_distributed(self) -> bool:
        """Whether the tables are spread over the machines of a Citus."""
        return self._backend.is_distributed

    def engine_and_schema(self) -> tuple[AsyncEngine, str | None]:
        """Return the engine of the open store, and on Postgres the schema of its tables."""
        self._check_open()
        return self._backend.engine, self._backend.schema

    def note_gone(self, key: ContextKey) -> None:
        """Read a context that is about to be deleted from the primary only, from now on."""
        self._note(key, NEVER)

    async def query(
        self, statement: sa.Select[*tuple[Any, ...]], *, user_id: str | None = None, may_lag: bool = True
    ) -> Sequence[AnyRow]:
        """Return the rows of a SELECT of your own over `taskctx_sql.sql.schema.tables`; the docs list the columns.

        Args:
            statement: The SELECT.
            user_id: Under row-level security, whose rows it can see. Without row-level security it has no effect.
            may_lag: Read from the replica, if there is one.

        Raises:
            RowLevelSecurityError: This account sees one user at a time, and none is given.
        """
        rls_user = self._begin("query", user_id)

        async def select(connection: AsyncConnection) -> Sequence[AnyRow]:
            return (await connection.execute(statement)).all()

        def primary() -> Awaitable[Sequence[AnyRow]]:
            return self._retrying.run("query", lambda: self._backend.query(select, rls_user), extra=None)

        return await (self._replica.query(select, rls_user, primary) if self._replica and may_lag else primary())

    async def read(self, doing: str, plan: Callable[[], Plan[T]], *, user_id: str | None = None) -> T:
        """Execute a plan, a new one for each attempt, that only reads; errors call it ``doing``.

        Raises:
            RowLevelSecurityError: This account sees one user at a time, and no ``user_id`` is given.
        """
        # Without a time limit, for reports.
        return await self._read(doing, plan, user_id, extra=None)

    async def write_plan(self, doing: str, plan: Callable[[], Plan[T]], *, user_id: str | None = None) -> T:
        """Execute a plan in one transaction, as `read` does; attempts are repeated, so twice must do no harm."""
        return await self._write(doing, plan, user_id, extra=None)

    async def close(self) -> None:
        """See `Store.close`. An engine of the caller's stays open.

        Calls under way are finished, and not repeated. A second call of `close`, or one that is cancelled, waits too.
        """
        if self._closing is None:
            self._home.check(self.database_url)
            self._closed = True
            self._closing = asyncio.ensure_future(self._close())
        if not self._closing.done():
            # If the caller does not wait, it goes on.
            await finished(self._closing, set())

    async def _close(self) -> None:
        # The last is closed first, and one that fails keeps no other open.
        async with AsyncExitStack() as parts:
            for part in (self._share, self._replica, self._retrying, self._subscriptions):
                if part is not None:
                    parts.push_async_callback(part.close)

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and self._backend.owns_engine:
            self._share.abandon()
            warnings.warn(f"{self!r} was never closed: use `async with open_store(...)`", ResourceWarning, 2)

    def __repr__(self) -> str:
        return f"SqlStore({self.database_url!r})"

    def _begin(self, doing: str, user_id: str | None) -> str | None:
        """Check that the store can be used, and return the user for row-level security; None if it does not hold."""
        self._check_open()
        if not self._backend.row_level_security:
            return None
        if user_id is None:
            raise RowLevelSecurityError(doing, self.database_url)
        return row_security.check_user(user_id)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosedError(self.database_url)
        self._home.check(self.database_url)

    def _note(self, key: ContextKey, revision: int) -> None:
        if self._replica is not None:
            self._replica.note(key, revision)

    async def _read(
        self, doing: str, plan: Callable[[], Plan[T]], user_id: str | None, *, extra: float | None = 0.0
    ) -> T:
        rls_user = self._begin(doing, user_id)
        return await self._retrying.run(doing, lambda: self._backend.read(plan(), rls_user), extra=extra)

    async def _read_part(self, key: ContextKey, plan: Callable[[], Plan[T]]) -> T:
        if self._replica is None:
            return await self._read("read", plan, key.user_id)
        rls_user = self._begin("read", key.user_id)
        return await self._replica.part(key, plan, rls_user, lambda: self._read("read", plan, key.user_id))

    async def _write(
        self, doing: str, plan: Callable[[], Plan[T]], user_id: str | None, *, extra: float | None = 0.0
    ) -> T:
        rls_user = self._begin(doing, user_id)
        result = await self._retrying.run(doing, lambda: self._backend.write(plan(), rls_user), extra=extra)
        self._backend.catch_up()
        return result
