"""A SQLite file on an engine of ours: reads and writes go to threads with connections of SQLite's own driver."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql.model import Saved
from taskctx_sql.sql.backends.backend import Backend
from taskctx_sql.sql.load import SqliteReader
from taskctx_sql.sql.plan import Plan
from taskctx_sql.sql.save import SaveRequest, SqliteWriter

T = TypeVar("T")


class SqliteBackend(Backend):
    """See `Backend`."""

    def __init__(self, engine: AsyncEngine, schema: str | None, retry_seconds: float, lock_seconds: float) -> None:
        super().__init__(engine, schema, retry_seconds)
        path = str(engine.url.database)
        self.writer: SqliteWriter = SqliteWriter(path, self.database_url, lock_seconds)
        self.reader: SqliteReader = SqliteReader(path, lock_seconds)
        self._parts += (self.reader.close, self.writer.close)

    def save(self, request: SaveRequest) -> Awaitable[Saved]:
        """See `Backend.save`."""
        return self.writer.save(request)

    def read(self, plan: Plan[T], rls_user: str | None) -> Awaitable[T]:
        """See `Backend.read`."""
        return self.reader.read(plan)

    async def write(self, plan: Plan[T], rls_user: str | None) -> T:
        """See `Backend.write`."""
        return await self.writer.write(plan)

    def abandon(self) -> None:
        """See `Backend.abandon`."""
        self.writer.abandon()
        self.reader.abandon()
