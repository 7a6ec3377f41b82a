"""Checks of an engine that the caller created."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import StaticPool

from taskctx_sql.errors import InvalidDatabaseUrlError
from taskctx_sql.sql.engines.addresses import is_memory, mask
from taskctx_sql.sql.engines.connections import begin_on_sqlite
from taskctx_sql.sql.engines.sqlite import is_sqlite


def check_pool(engine: AsyncEngine) -> None:
    """Check that all connections of an engine lead to one database.

    Raises:
        InvalidDatabaseUrlError: The database is in memory, and each connection would have one of its own.
    """
    url = engine.url
    if not is_sqlite(engine) or not is_memory(url) or "cache=shared" in str(url):
        return
    if not isinstance(engine.sync_engine.pool, StaticPool):
        pool = type(engine.sync_engine.pool).__name__
        reason = f"with a {pool} each connection has a database in memory of its own: create the engine with StaticPool"
        raise InvalidDatabaseUrlError(mask(str(url)), reason)


async def check_transactions(connection: AsyncConnection) -> None:
    """Check that the driver rolls back; call it in a transaction that has done nothing yet.

    Raises:
        InvalidDatabaseUrlError: The driver commits each statement by itself.
    """
    if is_sqlite(connection) and not await connection.run_sync(_can_roll_back):
        reason = "its driver is set to autocommit=True, so nothing would be a transaction: leave that setting out"
        raise InvalidDatabaseUrlError(mask(str(connection.engine.url)), reason)


def _can_roll_back(connection: sa.Connection) -> bool:
    # Since Python 3.12: with autocommit=True the driver's commit() and rollback() do nothing.
    connection.connection.rollback()
    driver: Any = connection.connection.driver_connection
    if driver.in_transaction:
        return False
    begin_on_sqlite(connection, "BEGIN")
    return True
