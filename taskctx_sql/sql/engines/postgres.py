"""Connections to Postgres by asyncpg."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from taskctx_sql.sql.engines.addresses import driver_settings, is_pooled

# In milliseconds: Postgres accepts no more.
_LONGEST_LOCK_TIMEOUT: Final = 2**31 - 1


def create_postgres_engine(
    url: sa.URL, *, transaction_pooling: bool, connect_seconds: float | None, lock_seconds: float | None
) -> AsyncEngine:
    """Return an engine for Postgres; see `create_engine`."""
    pooled = transaction_pooling or is_pooled(url)
    url, settings = driver_settings(url)
    if connect_seconds is not None:
        settings["timeout"] = connect_seconds
    if pooled:
        settings |= {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
    elif lock_seconds is not None:
        # Not with a pooler, which may refuse the parameter. A value in the URL takes precedence.
        limit = {"lock_timeout": str(int(min(max(1, lock_seconds * 1000), _LONGEST_LOCK_TIMEOUT)))}
        settings["server_settings"] = limit | settings.get("server_settings", {})
    return create_async_engine(url, hide_parameters=True, pool_size=10, max_overflow=10, connect_args=settings)


def can_listen(engine: AsyncEngine, *, transaction_pooling: bool) -> bool:
    """Whether a connection of the engine can LISTEN, which a pooler in transaction mode does not support."""
    return engine.driver == "asyncpg" and not transaction_pooling
