"""Reads from Postgres past SQLAlchemy's layers: they cost more than the rows."""

from __future__ import annotations

import asyncio
from typing import Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql.sql.postgres_connection import PostgresConnection
from taskctx_sql.sql.steps import Steps, carry_out_on_asyncpg

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

    async def read(self, steps: Steps[T]) -> T:
        """Carry out steps that only read, and return what they return.

        Raises:
            Exception: What the driver raised.
            TaskContextError: What the steps raise.
        """
        async with self._turn:
            connection = self._idle.pop()
            try:
                return await carry_out_on_asyncpg(steps, await connection.get())
            except BaseException:
                await connection.drop()
                raise
            finally:
                self._idle.append(connection)

    async def close(self) -> None:
        """Give the connections back, when those in use are done."""
        for _ in range(CONNECTIONS):
            await self._turn.acquire()
        for connection in self._idle:
            await connection.close()

    def abandon(self) -> None:
        """Nothing to do: the loop ends what it runs."""
