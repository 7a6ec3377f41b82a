"""Opening a database: which back end it gets, and whether its schema is the one that this version needs."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql.concurrency import shielded
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
    others: Hashable,
) -> Share:
    """Return a share in the back end of a database whose schema was checked; a new SQLite file is set up.

    Stores whose ``others`` (their other options) differ do not share, nor do those on an engine of the caller's. Raises
    as `SqlStore.open` does.
    """
    if isinstance(database, str):
        url = engines.parse_url(database, transaction_pooling=transaction_pooling)
        retrying = Retrying(engines.mask(str(url)), retry_seconds)
        await retrying.run("open", partial(_prepare, url))
        pooling = transaction_pooling or engines.is_pooled(url)

        def create() -> Backend:
            engine = engines.create_engine(url, transaction_pooling=pooling, lock_seconds=retry_seconds)
            return backend_on(engine, schema, retry_seconds, pooling)

        share = Share.of(url, (schema, retry_seconds, pooling, others), create)
    else:
        engines.check_pool(database)
        share = Share(backend_on(database, schema, retry_seconds, transaction_pooling, owns_engine=False))
        retrying = Retrying(share.backend.database_url, retry_seconds)
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
) -> Backend:
    """Return the back end for an engine; on our own, the settings of a SQLite file are known."""
    if not engines.is_sqlite(engine):
        return PostgresBackend(
            engine, schema, retry_seconds, transaction_pooling=transaction_pooling, owns_engine=owns_engine
        )
    if owns_engine and engines.is_plain_file(engine.url):
        return SqliteBackend(engine, schema, retry_seconds)
    return Backend(engine, schema, retry_seconds, owns_engine=owns_engine)


async def _prepare(url: sa.URL) -> None:
    engines.prepare_file(url)
