"""A Postgres on an engine of ours: saves, loads and other writes go to asyncpg, past SQLAlchemy's layers."""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql.concurrency import shielded
from taskctx_sql.model import Saved
from taskctx_sql.sql.backends.backend import Backend
from taskctx_sql.sql.load.postgres_reader import PostgresReader
from taskctx_sql.sql.plan import Plan
from taskctx_sql.sql.postgres_connection import execute_in_transaction, use_once
from taskctx_sql.sql.save import SaveRequest
from taskctx_sql.sql.save.postgres_writer import PostgresWriter

T = TypeVar("T")


class PostgresBackend(Backend):
    """See `Backend`."""

    def __init__(self, engine: AsyncEngine, schema: str | None, retry_seconds: float) -> None:
        super().__init__(engine, schema, retry_seconds)
        self.writer: PostgresWriter = PostgresWriter(engine, self.database_url)
        self.reader: PostgresReader = PostgresReader(engine)
        self._parts += (self.reader.close, self.writer.close)

    def save(self, request: SaveRequest) -> Awaitable[Saved]:
        """See `Backend.save`."""
        # The writer's one statement would lock contexts on several machines, which a Citus refuses.
        return super().save(request) if self.is_distributed else self.writer.save(request)

    def read(self, plan: Plan[T], rls_user: str | None) -> Awaitable[T]:
        """See `Backend.read`."""
        return self.reader.read(plan, rls_user)

    async def write(self, plan: Plan[T], rls_user: str | None) -> T:
        """See `Backend.write`."""
        return await shielded(use_once(self.engine, partial(execute_in_transaction, plan, rls_user)))
