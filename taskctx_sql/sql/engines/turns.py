"""Locks that the stores on one engine share."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import StaticPool

from taskctx_sql.sql.engines.addresses import is_memory
from taskctx_sql.sql.engines.sqlite import is_sqlite


class Turns(NamedTuple):
    """Locks that let one task at a time write to an engine, or read from it; None where that is not needed."""

    write: asyncio.Lock | None
    read: asyncio.Lock | None


# By pool, since an engine derived from another one, with options of its own, has the pool of that one.
_turns: Final[WeakKeyDictionary[sa.Pool, tuple[asyncio.AbstractEventLoop, Turns]]] = WeakKeyDictionary()


def turns(engine: AsyncEngine) -> Turns:
    """Return the locks of an engine, the same for all stores on it in one event loop.

    One writer at a time is faster than several that compete for a SQLite file. Where all share one connection, they
    share its transaction too, so reads take turns as well.
    """
    pool, loop = engine.sync_engine.pool, asyncio.get_running_loop()
    known = _turns.get(pool)
    if known is not None and known[0] is loop:
        return known[1]
    shared = isinstance(pool, StaticPool)
    write = asyncio.Lock() if shared or is_sqlite(engine) else None
    new = Turns(write, write if shared or (write is not None and is_memory(engine.url)) else None)
    _turns[pool] = (loop, new)
    return new
