"""Reading from Postgres with asyncpg itself: the layers of SQLAlchemy cost more than the rows."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final, TypeVar

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql.errors import StoreClosedError
from taskctx_sql.sql import engines
from taskctx_sql.sql.plan import Plan, execute_on_asyncpg
from taskctx_sql.sql.postgres_connection import PostgresConnection, transaction
from taskctx_sql.sql.retry import deadline, in_turn

T = TypeVar("T")

# The other connections of the pool are for queries through SQLAlchemy.
CONNECTIONS: Final = 4


class PostgresReader:
    """A few connections for reading, each used by one task at a time and opened for the first one."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._idle = [PostgresConnection(engine) for _ in range(CONNECTIONS)]
        self._turn = asyncio.Semaphore(CONNECTIONS)
        self._database_url = engines.mask(str(engine.url))
        self._closed = False

    async def read(self, plan: Plan[T], rls_user: str | None) -> T:
        """Execute a plan that only reads. See `Backend.read`."""
        async with in_turn(self._turn):
            if self._closed:
                raise StoreClosedError(self._database_url)
            held = self._idle.pop()
            try:
                return await held.use(partial(_read, plan, rls_user), deadline(), writes=False)
            finally:
                self._idle.append(held)

    async def close(self) -> None:
        """Release everything once the reads under way are done."""
        self._closed = True
        for _ in range(CONNECTIONS):
            await self._turn.acquire()
        # Those still waiting for a turn get StoreClosedError.
        for _ in range(CONNECTIONS):
            self._turn.release()
        for connection in self._idle:
            await connection.close()


async def _read(plan: Plan[T], rls_user: str | None, connection: asyncpg.Connection) -> T:
    if rls_user is None:
        return await execute_on_asyncpg(plan, connection)
    async with transaction(connection, rls_user):
        return await execute_on_asyncpg(plan, connection)
