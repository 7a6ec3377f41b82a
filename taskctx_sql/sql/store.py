"""The SQL store: contexts as rows, in SQLite or Postgres."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from taskctx_sql.concurrency import end_at_once, running_loop, shielded
from taskctx_sql.errors import (
    ContextNotFoundError,
    RowLevelSecurityError,
    SchemaMissingError,
    StaleContextError,
    StoreClosedError,
    WrongEventLoopError,
)
from taskctx_sql.limits import check_number, check_seconds
from taskctx_sql.model import (
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
from taskctx_sql.sql import connections, engines, history, load, watch
from taskctx_sql.sql.engines import failover
from taskctx_sql.sql.plan import Plan, execute
from taskctx_sql.sql.replica import NEVER, Replica, replica_of
from taskctx_sql.sql.retry import (
    ROWS_A_SECOND,
    InDoubtError,
    Retrying,
    deadline,
    extend_limit,
    extended_by,
    in_turn,
    seconds_left,
    within,
)
from taskctx_sql.sql.row_codec import AnyRow, encode
from taskctx_sql.sql.save import SaveRequest, statements
from taskctx_sql.sql.schema import check, citus, has_tables, row_security, set_up
from taskctx_sql.sql.watch import Notifications, Notifier, listening, notify
from taskctx_sql.stores import Feature, check_watch

T = TypeVar("T")

logger = logging.getLogger(__name__)

DEFAULT_RETRY_SECONDS: Final = 15.0


class SqlStore:
    """Contexts in a database. `open_store` makes one; so does `SqlStore.open`.

    It belongs to the event loop and the process it was opened in. Within it, any number of tasks may use it at once.
    """

    features: Final[frozenset[Feature]] = frozenset(Feature)

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        schema: str | None = None,
        strict: bool = False,
        retry_seconds: float = DEFAULT_RETRY_SECONDS,
        owns_engine: bool = False,
        transaction_pooling: bool = False,
        replica: Replica | None = None,
        share: connections.Share | None = None,
    ) -> None:
        """Take an engine; `open` does this, and checks the database as well.

        Args:
            engine: What to connect with.
            schema: On Postgres, the schema that the tables are in.
            strict: Refuse values that would come back as their text.
            retry_seconds: How long a database that is away or locked is tried again.
            owns_engine: Whether `close` disposes the engine.
            transaction_pooling: Whether a connection lasts no longer than a transaction.
            replica: Where to read what may lag; closed with the store.
            share: What the store has open together with others; with ``owns_engine`` it is the only one if not given.
        """
        check_seconds("retry_seconds", retry_seconds)
        self.database_url = engines.mask(str(engine.url))
        if owns_engine and share is None:
            share = connections.own(
                engine, schema=schema, retry_seconds=retry_seconds, transaction_pooling=transaction_pooling
            )
        self._share = share
        if share is None:
            engine = engines.with_transactions(engine)
        self._engine = engine.execution_options(schema_translate_map={None: schema}) if schema else engine
        self._engine_name = engine.dialect.name
        self._schema = schema
        self._strict = strict
        self._retry_seconds = retry_seconds
        self._retrying = Retrying(self.database_url, retry_seconds)
        self._home = (os.getpid(), asyncio.get_running_loop())
        self._closed = False
        self._closing: asyncio.Future[None] | None = None
        # Whether this account sees only the user that a transaction names. Opening finds out.
        self._row_level_security = False
        sqlite = engines.is_sqlite(engine)
        self._turns = engines.turns(engine)
        self._writer = None if share is None else share.writer
        self._reader = None if share is None else share.reader
        self._write_on_postgres = None if share is None else share.write
        self._replica = replica
        self._notifications = Notifications(listening(engine, transaction_pooling=transaction_pooling))
        # On SQLite the file itself tells.
        self._notifier = None if sqlite else Notifier(self._notify)

    @property
    def engine_name(self) -> str:
        """Whose SQL the database speaks: "sqlite" or "postgresql"."""
        return self._engine_name

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
    ) -> SqlStore:
        """Open a database and see that its schema is the one this version needs; a new SQLite file is set up.

        Stores that are opened at the same address with the same options, in one event loop, share their connections.

        Raises:
            InvalidDatabaseUrlError: The URL is not one of SQLite or Postgres, or ``read_url`` names no replica of it.
            MissingDriverError: The driver is not installed.
            SchemaError: The schema is missing, older, newer or foreign, or the file is no database.
            StoreUnavailableError: The database could not be reached.
            StoreFailedError: It could be reached, and refused.
        """
        check_seconds("retry_seconds", retry_seconds)
        if read_url is not None:
            engines.parse_url(read_url)
        share: connections.Share | None = None
        if isinstance(database, str):
            url = engines.parse_url(database)
            transaction_pooling = transaction_pooling or engines.is_pooled(url)
            await Retrying(engines.mask(str(url)), retry_seconds).run("open", partial(_prepare, url))
            share = connections.share(
                url,
                schema=schema,
                retry_seconds=retry_seconds,
                transaction_pooling=transaction_pooling,
                others=(strict, read_url),
            )
            engine = share.engine
        else:
            engine = database
            engines.check_pool(engine)
        try:
            replica = None
            if read_url is not None:
                replica = replica_of(engine, read_url, schema=schema, transaction_pooling=transaction_pooling)
            store = cls(
                engine,
                schema=schema,
                strict=strict,
                retry_seconds=retry_seconds,
                transaction_pooling=transaction_pooling,
                replica=replica,
                share=share,
            )
        except BaseException:
            if share is not None:
                await shielded(share.close())
            raise
        try:
            if not await store._do("open", store._check, reads=True):
                await set_up(engine, retry_seconds)
        except BaseException:
            await store.close()
            raise
        return store

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

        def plan() -> Plan[Loaded]:
            return load.load(self._engine_name, key, selection)

        if self._replica is None or selection.is_past:
            return await self._do_read("load", plan, key.user_id)
        self._check_use()
        rls_user = self._rls_user("load", key.user_id)
        return await self._replica.load(key, plan, rls_user, lambda: self._do_read("load", plan, key.user_id))

    async def save(self, delta: Delta, /) -> Saved:
        """See `Store.save`."""
        self._check_use()
        rls_user = self._rls_user("save", delta.key.user_id)
        if delta.sent.encoded is None:
            delta.sent.encoded = await encode(delta, strict=self._strict)
        request = SaveRequest(delta, delta.sent.encoded, strict=self._strict, rls_user=rls_user)
        # Of a large save, the rows themselves take their time.
        rows = (delta.updates, delta.removed_updates, delta.models, delta.removed_models, delta.files)
        extra = sum(map(len, rows)) / ROWS_A_SECOND
        if self._replica is not None:
            # Even if nobody hears that it was written.
            self._replica.note(delta.key, request.base.revision + request.step)
        try:
            if self._writer is not None:
                writer = self._writer
                saved = await self._retrying.run("save", lambda: writer.save(request), extra=extra)
            else:
                saved = await self._do("save", lambda: self._save(request), extra=extra)
        except StaleContextError as error:
            if self._replica is not None:
                self._replica.note(delta.key, error.found)
            raise
        if self._replica is not None:
            self._replica.note(delta.key, saved.revision)
        if delta.updates:
            self._tell(request.encoded.context_id)
        return saved

    async def updates(
        self, key: ContextKey, /, *, after: int = 0, before: int | None = None, newest_first: bool = False
    ) -> AsyncIterator[StoredUpdate]:
        """See `Store.updates`."""
        has_come, size = False, load.PAGE_SIZE
        created_at, low, high = await self._bounds(key, after, before)
        while low < high:
            bounds = (max(low, high - size), high) if newest_first else (low, min(low + size, high))
            plan = partial(load.page, self._engine_name, key, created_at, *bounds, newest_first)
            page = await self._read_part(key, plan)
            if page is None:
                # It was deleted meanwhile, and may have been made anew.
                if has_come:
                    raise ContextNotFoundError(key)
                created_at, low, high = await self._bounds(key, after, before)
                continue
            for row in page:
                has_come = True
                yield row
            low, high = (low, bounds[0]) if newest_first else (bounds[1], high)
            # Where all was removed, larger pages are soon through.
            size = load.PAGE_SIZE if page else size * 4

    async def _bounds(self, key: ContextKey, after: int, before: int | None) -> tuple[float | None, int, int]:
        created_at, high = await self._read_part(key, lambda: load.next_seq(key))
        return created_at, max(after, 0) + 1, high if before is None else min(before, high)

    async def revisions(self, key: ContextKey, /, *, before: int | None = None, limit: int = 100) -> Sequence[Revision]:
        """See `Store.revisions`."""
        check_number("before", before, 1, optional=True)
        check_number("limit", limit, 0)
        plan = partial(history.list_revisions, self._engine_name, key, before, limit)
        return await self._do_read("list revisions", plan, key.user_id)

    async def difference(self, key: ContextKey, old: int, new: int, /) -> Difference:
        """See `Store.difference`."""
        check_number("old", old, 1)
        check_number("new", new, 1)
        return await self._do_read("compare", lambda: history.compare(self._engine_name, key, old, new), key.user_id)

    async def fork(self, key: ContextKey, chat_id: str, /, *, revision: int | None = None) -> ContextKey:
        """See `Store.fork`."""
        new, at = ContextKey(key.user_id, chat_id), time.time()
        check_number("revision", revision, 1, optional=True)
        run = Run(str(uuid.uuid4()), 1, at)
        if self._replica is not None:
            self._replica.note(new, 1)
        plan = partial(history.fork, self._engine_name, key, new, revision, run, at)
        rls_user = self._rls_user("fork", key.user_id)
        await self._do("fork", lambda: self._write(plan(), rls_user))
        return new

    def watch(
        self, key: ContextKey, /, *, after: int = 0, poll_interval: float = 1.0
    ) -> AsyncGenerator[StoredUpdate, None]:
        """See `Store.watch`."""
        check_watch(after, poll_interval)
        read = partial(self._do_read, "watch", user_id=key.user_id)
        return watch.watch(read, self._engine_name, key, after, poll_interval, self._notifications)

    async def contexts(
        self, user_id: str, /, *, after: ContextSummary | None = None, limit: int = 100
    ) -> Sequence[ContextSummary]:
        """See `Store.contexts`. The order is that of their making."""
        check_number("limit", limit, 0)
        user = ContextKey(user_id, "").user_id
        return await self._do_read("list", lambda: load.list_contexts(user, after, limit), user)

    async def delete(self, key: ContextKey, /) -> bool:
        """See `Store.delete`."""
        self.note_gone(key)
        rls_user = self._rls_user("delete", key.user_id)
        return await self._do("delete", lambda: self._write(load.erase(key), rls_user))

    def note_gone(self, key: ContextKey) -> None:
        """Know from now on that a context is to be gone: a replica that still has it is not asked for it."""
        if self._replica is not None:
            self._replica.note(key, NEVER)

    async def query(
        self, statement: sa.Select[*tuple[Any, ...]], *, user_id: str | None = None, may_lag: bool = True
    ) -> Sequence[AnyRow]:
        """Return the rows of a SELECT of your own over `taskctx_sql.sql.schema.tables`; docs/schema.md has the columns.

        Args:
            statement: What to ask.
            user_id: Whose rows, under row-level security; without it the rows that are asked for are returned.
            may_lag: Ask the read replica, if there is one.

        Raises:
            RowLevelSecurityError: This account sees one user at a time, and none is named.
        """
        rls_user = self._rls_user("query", user_id)

        async def ask(connection: AsyncConnection) -> Sequence[AnyRow]:
            return (await connection.execute(statement)).all()

        async def work() -> Sequence[AnyRow]:
            async with self._transaction(rls_user, write=False) as connection:
                return await ask(connection)

        if self._replica is None or not may_lag:
            return await self._do("query", work, reads=True, extra=None)
        self._check_use()
        return await self._replica.query(ask, rls_user, lambda: self._do("query", work, reads=True, extra=None))

    async def read(self, doing: str, plan: Callable[[], Plan[T]], *, user_id: str | None = None) -> T:
        """Carry out steps that only read, on what was committed; again while the database is away.

        Args:
            doing: What to call it in errors.
            plan: Makes the steps, for each attempt anew.
            user_id: Whose rows; None: of several users.

        Raises:
            RowLevelSecurityError: This account sees one user at a time, and none is named.
        """
        # A report, say: it may take its time.
        return await self._do_read(doing, plan, user_id, extra=None)

    async def write(self, doing: str, plan: Callable[[], Plan[T]], *, user_id: str | None = None) -> T:
        """Carry out steps in one transaction; again while the database is away, so twice must do no harm.

        Args:
            doing: What to call it in errors.
            plan: Makes the steps, for each attempt anew.
            user_id: Whose rows; None: of several users.

        Raises:
            RowLevelSecurityError: This account sees one user at a time, and none is named.
        """
        rls_user = self._rls_user(doing, user_id)
        return await self._do(doing, lambda: self._write(plan(), rls_user), extra=None)

    async def close(self) -> None:
        """See `Store.close`. An engine that the caller made stays open.

        What is under way is finished, and not tried again. Whoever is cancelled, or closes a second time, waits too.
        """
        if self._closing is None:
            self._check_home()
            self._closed = True
            self._closing = asyncio.ensure_future(self._close())
        if not self._closing.done():
            await shielded(self._closing)

    async def _close(self) -> None:
        # The last is closed first, and one that fails keeps no other open.
        async with AsyncExitStack() as parts:
            for part in (self._share, self._replica, self._notifier):
                if part is not None:
                    parts.push_async_callback(part.close)
            parts.push_async_callback(self._retrying.close)
            parts.push_async_callback(self._notifications.close)

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and self._share is not None:
            self._share.abandon()
            warnings.warn(f"{self!r} was never closed: use `async with open_store(...)`", ResourceWarning, 2)

    def __repr__(self) -> str:
        return f"SqlStore({self.database_url!r})"

    # The work of each call, in one transaction.

    async def _read(self, plan: Plan[T], rls_user: str | None) -> T:
        if self._reader is not None:
            return await self._reader.read(plan, rls_user)
        async with self._transaction(rls_user, write=False) as connection:
            return await execute(plan, connection)

    async def _save(self, request: SaveRequest) -> Saved:
        return await self._write(statements.save(self._engine_name, request), request.rls_user)

    async def _write(self, plan: Plan[T], rls_user: str | None) -> T:
        if self._write_on_postgres is not None:
            result: T = await self._write_on_postgres(plan, rls_user)
            return result
        async with self._transaction(rls_user, write=True) as connection:
            return await execute(plan, connection)

    async def _notify(self, payload: str) -> None:
        with within(self._retry_seconds):
            await self._read(notify(payload), None)

    def _tell(self, context_id: str) -> None:
        """Tell those who watch a context that it has grown, here and elsewhere."""
        self._notifications.give([context_id])
        if self._notifier is not None:
            self._notifier.tell(context_id)

    # How work is done.

    def _rls_user(self, doing: str, user_id: str | None) -> str | None:
        """Return whom a transaction has to name: nobody for an account that sees all."""
        if not self._row_level_security:
            return None
        if user_id is None:
            raise RowLevelSecurityError(doing, self.database_url)
        return row_security.check_user(user_id)

    @asynccontextmanager
    async def _transaction(self, rls_user: str | None, *, write: bool) -> AsyncIterator[AsyncConnection]:
        turn = self._turns.write if write else self._turns.read
        committing = False
        # SQLite itself limits how long it waits, and its driver cannot be interrupted.
        limit = asyncio.timeout(None if self._engine_name == "sqlite" else seconds_left(deadline()))
        async with in_turn(turn):
            try:
                async with limit, engines.transaction(self._engine, write=write) as connection:
                    try:
                        if rls_user is not None:
                            await row_security.set_user(connection, rls_user)
                        with extended_by(partial(extend_limit, limit)):
                            yield connection
                    except Exception as error:
                        await failover.drop(connection, error)
                        raise
                    committing = write
            except Exception as error:
                cause = TimeoutError("the server did not answer in time") if limit.expired() else error
                if committing and engines.is_in_doubt_at_commit(cause):
                    raise InDoubtError from cause
                if cause is not error:
                    raise cause from error
                raise

    async def _do(
        self, doing: str, work: Callable[[], Awaitable[T]], *, reads: bool = False, extra: float | None = 0.0
    ) -> T:
        """Do the work, again while the database is away, for as long as is allowed; then let a cancellation go on."""
        self._check_use()
        run = self._retrying.run(doing, work, extra=extra)
        # A driver of SQLite that is interrupted leaves its thread with a statement.
        return await (end_at_once(run) if reads and self._engine_name != "sqlite" else shielded(run))

    async def _do_read(
        self, doing: str, plan: Callable[[], Plan[T]], user_id: str | None, *, extra: float | None = 0.0
    ) -> T:
        rls_user = self._rls_user(doing, user_id)
        if self._reader is not None:
            self._check_use()
            return await self._retrying.run(doing, lambda: self._read(plan(), rls_user), extra=extra)
        return await self._do(doing, lambda: self._read(plan(), rls_user), reads=True, extra=extra)

    async def _read_part(self, key: ContextKey, plan: Callable[[], Plan[T]]) -> T:
        if self._replica is None:
            return await self._do_read("read", plan, key.user_id)
        self._check_use()
        rls_user = self._rls_user("read", key.user_id)
        return await self._replica.part(key, plan, rls_user, lambda: self._do_read("read", plan, key.user_id))

    async def _check(self) -> bool:
        """See that the schema is the one needed; return False for a SQLite file that has nothing in it yet."""
        engines.prepare_file(self._engine.url)
        async with self._transaction(None, write=False) as connection:
            await engines.check_transactions(connection)
            try:
                await connection.run_sync(check, self._schema, self.database_url)
            except SchemaMissingError:
                if not engines.is_sqlite(connection) or await connection.run_sync(has_tables):
                    raise
                return False
            if await connection.run_sync(citus.is_distributed, self._schema):
                # The one statement would lock contexts on several machines, which is refused; so each save has its own.
                self._writer = None
            self._row_level_security = await connection.run_sync(row_security.is_active, self._schema)
            return True

    def _check_use(self) -> None:
        if self._closed:
            raise StoreClosedError(self.database_url)
        self._check_home()

    def _check_home(self) -> None:
        process, loop = self._home
        # The process first: in a forked child no loop counts as running.
        if process != os.getpid() or loop is not running_loop(f"use {self.database_url}"):
            raise WrongEventLoopError(self.database_url)


async def _prepare(url: sa.URL) -> None:
    engines.prepare_file(url)
