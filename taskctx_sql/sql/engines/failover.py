"""After a failover, connections may still lead to the old primary, which only reads now: none of them is used again."""

from __future__ import annotations

import contextlib
from typing import Final
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from taskctx_sql.sql.engines import dialect

# How often the connections of a pool were given up.
_given_up: Final[WeakKeyDictionary[sa.Pool, int]] = WeakKeyDictionary()


def generation(engine: AsyncEngine) -> int:
    """Return a number that changes when the engine's connections are not to be used any more."""
    return _given_up.get(engine.sync_engine.pool, 0)


async def drop(connection: AsyncConnection, error: BaseException) -> None:
    """Throw a connection away after an error that tells that it is of no use; all of its pool, if they are like it."""
    if not dialect.breaks_connection(error):
        return
    with contextlib.suppress(Exception):
        await connection.invalidate()
    if dialect.tells_of_failover(error):
        await give_up(connection.engine)


async def give_up(engine: AsyncEngine) -> None:
    """Let none of the connections that the engine has now be used again."""
    pool = engine.sync_engine.pool
    _given_up[pool] = _given_up.get(pool, 0) + 1
    # Only pools that keep connections say how many are idle.
    idle = getattr(pool, "checkedin", int)()
    for _ in range(idle):
        if pool.checkedin() == 0:  # type: ignore[attr-defined]  # see above
            return
        async with engine.connect() as connection:
            await connection.invalidate()
