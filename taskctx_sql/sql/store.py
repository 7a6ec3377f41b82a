"""The SQL store: contexts as rows, in SQLite or Postgres."""

from __future__ import annotations

import asyncio
import uuid
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from taskctx_sql import clock, observing
from taskctx_sql.concurrency import finished
from taskctx_sql.errors import (
    ContextNotFoundError,
    InvalidDatabaseUrlError,
    RowLevelSecurityError,
    StaleContextError,
    StoreClosedError,
)
from taskctx_sql.limits import check_number, check_seconds
from taskctx_sql.model import (
    DEFAULT_CONNECTION,
    ConnectionOptions,
    ContextKey,
    ContextSummary,
    Delta,
    Difference,
    Loaded,
    Revision,
    Run,
    Saved,
    Selection,
    StoredUpdate,
)
from taskctx_sql.sql import delete, history, load, watch
from taskctx_sql.sql.backends import NEVER, Replica, Share, open_backend, open_replica
from taskctx_sql.sql.home import Home
from taskctx_sql.sql.plan import Plan
from taskctx_sql.sql.reports import Reports
from taskctx_sql.sql.retry import DEFAULT_RETRY_SECONDS, ROWS_A_SECOND, Retrying
from taskctx_sql.sql.row_codec import AnyRow
from taskctx_sql.sql.save import SaveRequest
from taskctx_sql.sql.schema import row_security
from taskctx_sql.sql.watch import Subscriptions
from taskctx_sql.stores import ContextStore, Feature, answering, check_watch

T = TypeVar("T")


class SqlStore:
    """Contexts in a database, opened by `open_store` or `SqlStore.open`.

    A store belongs to the event loop and the process it was opened in. Any number of tasks there may use it at once.
    """

    features: Final[frozenset[Feature]] = frozenset(Feature)

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
        observing.observer().store_opened(self, self._backend.schema, ("query", "read", "write"))

    @property
    def engine_name(self) -> str:
        """Whose SQL the database speaks: "sqlite" or "postgresql"."""
        return self._backend.engine_name

    @property
    def is_distributed(self) -> bool:
        """Whether the tables are spread over the machines of a Citus."""
        return self._backend.is_distributed

    @classmethod
    async def open(
        cls,
        database: str | AsyncEngine,
        *,
        schema: str | None = None,
        strict: bool = False,
        retry_seconds: float = DEFAULT_RETRY_SECONDS,
        transaction_pooling: bool = False,
        read_url: str | None = None,
        connection: ConnectionOptions = DEFAULT_CONNECTION,
        open_seconds: float | None = None,
    ) -> SqlStore:
        """Open a database and check that its schema is the one this version needs; a new SQLite file is set up.

        Stores that are opened at the same address with the same options, in one event loop, share their connections.

        Raises:
            InvalidDatabaseUrlError: The URL is not one of SQLite or Postgres, or ``read_url`` names no replica of it.
            MissingDriverError: The driver is not installed.
            SchemaError: The schema is missing, older, newer or foreign, or the file is no database.
            StoreError: The database could not be reached, or refused.
        """
        check_seconds("retry_seconds", retry_seconds)
        settings = (schema, retry_seconds, transaction_pooling)
        replica = None if read_url is None else open_replica(database, read_url, *settings, options=connection)
        share = await open_backend(
            database, *settings, options=connection, open_seconds=open_seconds, others=(strict, read_url)
        )
        return cls(share, replica=replica, strict=strict)

    async def load(
        self,
        key: ContextKey,
        /,
        *,
        history_limit: int | None = None,
        revision: int | None = None,
        at: float | None = None,
        max_chars: int | None = None,
        types: Sequence[str] | None = None,
        keep_types: Sequence[str] = (),
    ) -> Loaded:
        """See `Store.load`."""
        selection = Selection(history_limit, revision, at, max_chars, types, keep_types)
        plan = partial(load.load, self.engine_name, key, selection)
        if self._replica is None or selection.is_past:
            return await self._read("load", plan, key.user_id)
        rls_user = self._begin("load", key.user_id)
        return await self._replica.load(key, plan, rls_user, lambda: self._read("load", plan, key.user_id))

    async def save(self, delta: Delta, /) -> Saved:
        """See `Store.save`."""
        rls_user = self._begin("save", delta.key.user_id)
        request = await SaveRequest.of(delta, strict=self._strict, rls_user=rls_user)
        # Even if the caller never learns that it was written.
        self._note(delta.key, request.base.revision + request.step)
        extra = request.count_rows() / ROWS_A_SECOND
        try:
            saved = await self._retrying.run("save", partial(self._backend.save, request), extra=extra)
        except StaleContextError as error:
            self._note(delta.key, error.found)
            raise
        self._note(delta.key, saved.revision)
        if delta.updates:
            self._subscriptions.deliver([request.context_id])
            self._backend.notify(request.context_id)
        return saved

    async def updates(
        self, key: ContextKey, /, *, after: int = 0, before: int | None = None, newest_first: bool = False
    ) -> AsyncIterator[StoredUpdate]:
        """See `Store.updates`."""
        has_yielded, size = False, load.PAGE_SIZE
        created_at, low, high = await self._bounds(key, after, before)
        while low < high:
            bounds = (max(low, high - size), high) if newest_first else (low, min(low + size, high))
            plan = partial(load.read_page, self.engine_name, key, created_at, *bounds, newest_first)
            page = await self._read_part(key, plan)
            if page is None:
                # It was deleted meanwhile, and may have been created anew.
                if has_yielded:
                    raise ContextNotFoundError(key)
                created_at, low, high = await self._bounds(key, after, before)
                continue
            for row in page:
                has_yielded = True
                yield row
            low, high = (low, bounds[0]) if newest_first else (bounds[1], high)
            # Larger pages get past a range of removed updates sooner.
            size = load.PAGE_SIZE if page else size * 4

    async def _bounds(self, key: ContextKey, after: int, before: int | None) -> tuple[float | None, int, int]:
        created_at, high = await self._read_part(key, lambda: load.next_seq(key))
        return created_at, max(after, 0) + 1, high if before is None else min(before, high)

    async def revisions(self, key: ContextKey, /, *, before: int | None = None, limit: int = 100) -> Sequence[Revision]:
        """See `Store.revisions`."""
        check_number("before", before, 1, optional=True)
        check_number("limit", limit, 0)
        plan = partial(history.list_revisions, self.engine_name, key, before, limit)
        return await self._read("list revisions", plan, key.user_id)

    async def difference(self, key: ContextKey, old: int, new: int, /) -> Difference:
        """See `Store.difference`."""
        check_number("old", old, 1)
        check_number("new", new, 1)
        return await self._read("compare", partial(history.compare, self.engine_name, key, old, new), key.user_id)

    async def fork(self, key: ContextKey, chat_id: str, /, *, revision: int | None = None) -> ContextKey:
        """See `Store.fork`."""
        new, at = ContextKey(key.user_id, chat_id), clock.now()
        check_number("revision", revision, 1, optional=True)
        run = Run(str(uuid.uuid4()), 1, at)
        self._note(new, 1)
        await self._write("fork", partial(history.fork, self.engine_name, key, new, revision, run, at), key.user_id)
        return new

    def watch(
        self, key: ContextKey, /, *, after: int = 0, poll_interval: float = 1.0
    ) -> AsyncGenerator[StoredUpdate, None]:
        """See `Store.watch`."""
        check_watch(after, poll_interval)
        read = partial(self._read, "watch", user_id=key.user_id)
        return watch.follow(read, self.engine_name, key, after, poll_interval, self._subscriptions)

    @property
    def reports(self) -> Reports:
        """See `Store.reports`."""
        return Reports(self.query)

    async def contexts(
        self, user_id: str, /, *, after: ContextSummary | None = None, limit: int = 100
    ) -> Sequence[ContextSummary]:
        """See `Store.contexts`. They are ordered by their creation."""
        check_number("limit", limit, 0)
        user = ContextKey(user_id, "").user_id
        return await self._read("list", partial(load.list_contexts, user, after, limit), user)

    async def delete(self, key: ContextKey, /) -> bool:
        """See `Store.delete`."""
        self.note_gone(key)
        return await self._write("delete", partial(delete.delete, key), key.user_id)

    async def ping(self, *, timeout: float = 5.0) -> None:  # noqa: ASYNC109  # the protocol's name
        """See `Store.ping`. It reads the schema's revision from the primary."""
        self._check_open()
        async with answering(timeout, self.database_url):
            await self._backend.ping(timeout)

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

    async def write(self, doing: str, plan: Callable[[], Plan[T]], *, user_id: str | None = None) -> T:
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
        return await self._retrying.run(doing, lambda: self._backend.write(plan(), rls_user), extra=extra)


def as_database(store: ContextStore) -> SqlStore:
    """Return a store as an `SqlStore`, or raise InvalidDatabaseUrlError if it is not one."""
    if not isinstance(store, SqlStore):
        raise InvalidDatabaseUrlError(store.database_url, "it is not a database")
    return store
