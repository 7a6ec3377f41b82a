"""A connection of asyncpg that is held, for work that does not pay for SQLAlchemy's layers."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

if TYPE_CHECKING:
    import asyncpg


class PostgresConnection:
    """One connection out of an engine's pool, taken when it is needed first and kept until it breaks.

    Nothing on it may leave a transaction open.

    Args:
        engine: Where it comes from; its driver is asyncpg.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        """Take the engine; nothing is opened yet."""
        self._engine = engine
        self._held: AsyncConnection | None = None
        self._driver: asyncpg.Connection | None = None

    async def get(self) -> asyncpg.Connection:
        """Return the driver's connection, a new one if there is none that lives.

        Raises:
            Exception: What the driver raises when it cannot connect.
        """
        if self._driver is not None and self._driver.is_closed():
            await self.drop()
        if self._driver is None:
            self._held = await self._engine.connect()
            raw = await self._held.get_raw_connection()
            driver: asyncpg.Connection | None = raw.driver_connection
            assert driver is not None
            self._driver = driver
        return self._driver

    async def drop(self) -> None:
        """Throw the connection away: after an error nobody knows what state it is in."""
        held, self._held, self._driver = self._held, None, None
        if held is not None:
            with contextlib.suppress(Exception):
                await held.invalidate()
            await held.close()

    async def close(self) -> None:
        """Give the connection back."""
        held, self._held, self._driver = self._held, None, None
        if held is not None:
            await held.close()
