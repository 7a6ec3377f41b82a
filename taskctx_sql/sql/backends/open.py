"""Opening a database: which back end it gets, and whether its schema is the one that this version needs."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql.concurrency import shielded
from taskctx_sql.limits import check_seconds
from taskctx_sql.model import DEFAULT_CONNECTION, ConnectionOptions
from taskctx_sql.sql import engines
from taskctx_sql.sql.backends.backend import Backend
from taskctx_sql.sql.backends.postgres_backend import PostgresBackend
from taskctx_sql.sql.backends.shared import Share
from taskctx_sql.sql.backends.sqlite_backend import SqliteBackend
from taskctx_sql.sql.retry import Retrying
from taskctx_sql.sql.schema import set_up


async def open_backend(
    database: str | AsyncEngine,
    schema: str | None,
    retry_seconds: float,
    transaction_pooling: bool,
    *,
    options: ConnectionOptions = DEFAULT_CONNECTION,
    open_seconds: float | None = None,
    others: Hashable,
) -> Share:
    """Return a share in the back end of a database whose schema was checked; a new SQLite file is set up.

    Stores whose ``others`` (their other options) differ do not share, nor do those on an engine of the caller's.
    Opening is tried for ``open_seconds``, by default for ``retry_seconds``. Raises as `SqlStore.open` does.
    """
    patience = retry_seconds if open_seconds is None else open_seconds
    check_seconds("open_seconds", patience)
    if isinstance(database, str):
        url = engines.parse_url(database, options, transaction_pooling=transaction_pooling)
        retrying = Retrying(engines.mask(url), patience)
        await retrying.run("open", partial(_prepare, url))
        pooling = transaction_pooling or engines.is_pooled(url)

        def create() -> Backend:
            engine = engines.create_engine(url, options, transaction_pooling=pooling, lock_seconds=retry_seconds)
            return backend_on(engine, schema, retry_seconds, pooling, lock_seconds=lock_seconds)

        lock_seconds = engines.lock_seconds_of(url, options, retry_seconds)
        share = Share.of(url, (schema, retry_seconds, pooling, options, others), create)
    else:
        options.only((), "the engine that was passed has connections of its own")
        engines.check_pool(database)
        share = Share(backend_on(database, schema, retry_seconds, transaction_pooling, owns_engine=False))
        retrying = Retrying(share.backend.database_url, patience)
    try:
        if not await retrying.run("open", share.backend.check):
            await set_up(share.backend.engine, retry_seconds)
    except BaseException:
        await shielded(share.close())
        raise
    return share


def backend_on(
    engine: AsyncEngine,
    schema: str | None,
    retry_seconds: float,
    transaction_pooling: bool = False,
    *,
    owns_engine: bool = True,
    lock_seconds: float | None = None,
) -> Backend:
    """Return the back end for an engine; on our own, the settings of a SQLite file are known."""
    if not engines.is_sqlite(engine):
        return PostgresBackend(
            engine, schema, retry_seconds, transaction_pooling=transaction_pooling, owns_engine=owns_engine
        )
    if owns_engine and engines.is_plain_file(engine.url):
        return SqliteBackend(engine, schema, retry_seconds, retry_seconds if lock_seconds is None else lock_seconds)
    return Backend(engine, schema, retry_seconds, owns_engine=owns_engine)


async def _prepare(url: sa.URL) -> None:
    engines.prepare_file(url)
