"""Reads from Postgres past SQLAlchemy's layers: they cost more than the rows."""

from __future__ import annotations

import asyncio
from typing import Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql.sql.postgres_connection import PostgresConnection, transaction
from taskctx_sql.sql.steps import Steps, carry_out_on_asyncpg
from taskctx_sql.store import finish

T = TypeVar("T")

# The rest of the pool is for those who ask in their own way.
CONNECTIONS: Final = 4


class PostgresReader:
    """A few connections that read, each in the hands of one task at a time.

    Args:
        engine: Where they come from; its driver is asyncpg.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        """Take the engine; nothing is opened yet."""
        self._idle = [PostgresConnection(engine) for _ in range(CONNECTIONS)]
        self._turn = asyncio.Semaphore(CONNECTIONS)

    async def read(self, steps: Steps[T], named: str | None) -> T:
        """See `Reader.read`."""
        return await finish(self._read(steps, named))

    async def _read(self, steps: Steps[T], named: str | None) -> T:
        async with self._turn:
            held = self._idle.pop()
            try:
                async with held.use() as connection:
                    if named is None:
                        return await carry_out_on_asyncpg(steps, connection)
                    async with transaction(connection, named):
                        return await carry_out_on_asyncpg(steps, connection)
            finally:
                self._idle.append(held)

    async def close(self) -> None:
        """See `Reader.close`."""
        for _ in range(CONNECTIONS):
            await self._turn.acquire()
        for connection in self._idle:
            await connection.close()

    def abandon(self) -> None:
        """See `Reader.abandon`: the loop ends what it runs."""
