"""Connections to Postgres by asyncpg or psycopg."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from taskctx_sql.sql.engines import postgres_urls
from taskctx_sql.sql.engines.addresses import is_pooled

# In milliseconds: Postgres accepts no more.
_LONGEST_LOCK_TIMEOUT: Final = 2**31 - 1


def create_postgres_engine(
    url: sa.URL, *, transaction_pooling: bool, connect_seconds: float | None, lock_seconds: float | None
) -> AsyncEngine:
    """Return an engine for Postgres; see `create_engine`."""
    pooled = transaction_pooling or is_pooled(url)
    lock_timeout = None
    if lock_seconds is not None and not pooled:
        # Not with a pooler, which may refuse the parameter.
        lock_timeout = str(int(min(max(1, lock_seconds * 1000), _LONGEST_LOCK_TIMEOUT)))
    is_psycopg = url.drivername == postgres_urls.PSYCOPG
    settings_of = postgres_urls.psycopg_settings if is_psycopg else postgres_urls.asyncpg_settings
    url, settings = settings_of(url, pooled=pooled, connect_seconds=connect_seconds, lock_timeout=lock_timeout)
    # It would ask each database for a type that the library does not use.
    options: dict[str, Any] = {"use_native_hstore": False} if is_psycopg else {}
    return create_async_engine(
        url, hide_parameters=True, pool_size=10, max_overflow=10, connect_args=settings, **options
    )


def can_listen(engine: AsyncEngine, *, transaction_pooling: bool) -> bool:
    """Whether a connection of the engine can LISTEN, which a pooler in transaction mode does not support."""
    return engine.driver in ("asyncpg", "psycopg") and not transaction_pooling
