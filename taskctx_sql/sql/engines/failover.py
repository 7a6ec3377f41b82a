"""After a failover, connections may still lead to the old primary, which only reads now: none of them is used again."""

from __future__ import annotations

import contextlib
from typing import Final
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from taskctx_sql.sql.engines.error_classes import breaks_connection, is_failover

_generations: Final[WeakKeyDictionary[sa.Pool, int]] = WeakKeyDictionary()


def generation(engine: AsyncEngine) -> int:
    """Return how often the engine's connections were invalidated: one of an earlier generation must not be used."""
    return _generations.get(engine.sync_engine.pool, 0)


async def drop_broken(connection: AsyncConnection, error: BaseException) -> None:
    """Invalidate a connection that cannot be used after an error; after a failover, all of its pool."""
    if not breaks_connection(error):
        return
    with contextlib.suppress(Exception):
        await connection.invalidate()
    if is_failover(error):
        await invalidate_pool(connection.engine)


async def invalidate_pool(engine: AsyncEngine) -> None:
    """Invalidate all connections that the engine has now."""
    pool = engine.sync_engine.pool
    _generations[pool] = _generations.get(pool, 0) + 1
    # Only pools that keep connections have the number of idle ones.
    idle = getattr(pool, "checkedin", int)()
    for _ in range(idle):
        if pool.checkedin() == 0:  # type: ignore[attr-defined]  # see above
            return
        async with engine.connect() as connection:
            await connection.invalidate()
