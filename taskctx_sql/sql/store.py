"""The SQL store: contexts as rows, in SQLite or Postgres."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql import clock
from taskctx_sql.errors import (
    InvalidDatabaseUrlError,
)
from taskctx_sql.limits import check_number, check_seconds
from taskctx_sql.model import (
    DEFAULT_CONNECTION,
    ConnectionOptions,
    ContextKey,
    ContextSummary,
    Difference,
    Listing,
    Loaded,
    Revision,
    Run,
    Selection,
    StateEntry,
    StateKind,
    StoredUpdate,
)
from taskctx_sql.model.report_filters import Filters, Moment
from taskctx_sql.model.search import SearchHit, SearchOrder
from taskctx_sql.random_ids import new_uuid
from taskctx_sql.sql import delete, history, load, watch
from taskctx_sql.sql.backends import open_backend, open_replica
from taskctx_sql.sql.calls import Calls
from taskctx_sql.sql.reports import Report, Reports
from taskctx_sql.sql.retry import DEFAULT_RETRY_SECONDS
from taskctx_sql.sql.search import Question, Search, backlog
from taskctx_sql.stores import ContextStore, Feature, answering, check_updates, check_watch


class SqlStore(Calls):
    """Contexts in a database, opened by `open_store` or `SqlStore.open`.

    A store belongs to the event loop and the process it was opened in. Any number of tasks there may use it at once.
    """

    features: Final[frozenset[Feature]] = frozenset(Feature)

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

    def updates(
        self,
        key: ContextKey,
        /,
        *,
        after: int = 0,
        before: int | None = None,
        newest_first: bool = False,
        types: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[StoredUpdate]:
        """See `Store.updates`."""
        check_updates(types, limit)
        wanted = load.Wanted(max(after, 0), before, newest_first, types)
        return load.read_updates(self._read_part, self.engine_name, key, wanted, limit)

    async def data(
        self, key: ContextKey, /, *, types: Sequence[str] | None = None, limit: int | None = None
    ) -> list[Any]:
        """See `Store.data`."""
        check_updates(types, limit)
        return await load.read_data(self._read_part, self.engine_name, key, types, limit)

    async def revisions(self, key: ContextKey, /, *, before: int | None = None, limit: int = 100) -> Sequence[Revision]:
        """See `Store.revisions`."""
        check_number("before", before, 1, optional=True)
        check_number("limit", limit, 0)
        plan = partial(history.list_revisions, self.engine_name, key, before, limit)
        return await self._read("list revisions", plan, key.user_id)

    async def difference(self, key: ContextKey, old: int, new: int, /, *, limit: int | None = None) -> Difference:
        """See `Store.difference`."""
        check_number("old", old, 1)
        check_number("new", new, 1)
        check_number("limit", limit, 1, optional=True)
        plan = partial(history.compare, self.engine_name, key, old, new, limit)
        return await self._read("compare", plan, key.user_id)

    async def fork(self, key: ContextKey, chat_id: str, /, *, revision: int | None = None) -> ContextKey:
        """See `Store.fork`."""
        new, at = ContextKey(key.user_id, chat_id), clock.now()
        check_number("revision", revision, 1, optional=True)
        run = Run(new_uuid(), 1, at)
        self._note(new, 1)
        await self._write("fork", partial(history.fork, self.engine_name, key, new, revision, run, at), key.user_id)
        return new

    async def state(
        self,
        key: ContextKey,
        /,
        *names: str,
        prefix: str = "",
        after: str | None = None,
        before: str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        by_time: bool = False,
        revision: int | None = None,
        kind: StateKind = "state",
    ) -> Sequence[StateEntry]:
        """See `Store.state`."""
        selection = load.StateSelection(names, prefix, after, before, limit, newest_first, by_time, revision, kind)
        plan = partial(load.read_state, self.engine_name, key, selection, clock.now())
        return await (self._read_part(key, plan) if revision is None else self._read("read", plan, key.user_id))

    def watch(
        self, key: ContextKey, /, *, after: int = 0, created_at: float | None = None, poll_interval: float = 1.0
    ) -> AsyncGenerator[StoredUpdate, None]:
        """See `Store.watch`."""
        check_watch(after, created_at, poll_interval)
        read = partial(self._read, "watch", user_id=key.user_id)
        return watch.follow(read, self.engine_name, key, after, created_at, poll_interval, self._subscriptions)

    @property
    def reports(self) -> Reports:
        """See `Store.reports`."""
        return Reports(self.query, self.engine_name, self._backend.schema)

    def search(
        self,
        text: str,
        /,
        *,
        user_id: str | None = None,
        chat_id: str | None = None,
        update_type: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: int | None = None,
        order: SearchOrder = "newest",
        case_sensitive: bool = False,
        after: SearchHit | None = None,
    ) -> Report[SearchHit]:
        """See `Store.search`."""
        filters = Filters(user_id=user_id, chat_id=chat_id, since=since, until=until, limit=limit)
        question = Question(text, filters, update_type, order, case_sensitive, after)
        return Search(self.query, question, self.engine_name, self._backend.schema)

    async def search_backlog(self) -> int | None:
        """See `Store.search_backlog`. An account that cannot read the index, as under row-level security, has none."""
        if self._backend.row_level_security:
            return None
        return await backlog(self.query, self.engine_name, self._backend.schema)

    async def contexts(
        self,
        user_id: str | None,
        /,
        *,
        after: ContextSummary | None = None,
        limit: int = 100,
        labels: Mapping[str, str] | None = None,
        title: str | None = None,
        updated_since: float | None = None,
        state: Sequence[str] | None = (),
    ) -> Sequence[ContextSummary]:
        """See `Store.contexts`. They are ordered by their creation."""
        listing = Listing(user_id, after, limit, labels, title, updated_since, state)
        is_guarded = self._backend.row_level_security
        plan = partial(load.list_contexts, self.engine_name, listing, clock.now(), is_guarded=is_guarded)
        return await self._read("list", plan, listing.user_id)

    async def delete(self, key: ContextKey, /) -> bool:
        """See `Store.delete`."""
        self.note_gone(key)
        return await self._write("delete", partial(delete.delete, key), key.user_id)

    async def ping(self, *, timeout: float = 5.0) -> None:  # noqa: ASYNC109  # the protocol's name
        """See `Store.ping`. It reads the schema's revision from the primary."""
        self._check_open()
        async with answering(timeout, self.database_url):
            await self._backend.ping(timeout)


def as_database(store: ContextStore) -> SqlStore:
    """Return a store as an `SqlStore`, or raise InvalidDatabaseUrlError if it is not one."""
    if not isinstance(store, SqlStore):
        raise InvalidDatabaseUrlError(store.database_url, "it is not a database")
    return store
