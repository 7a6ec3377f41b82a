"""A Postgres, on any engine: saves, loads and other writes go to its driver, past SQLAlchemy's layers."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from functools import partial
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql.concurrency import finished
from taskctx_sql.model import Saved
from taskctx_sql.sql.backends.backend import Backend
from taskctx_sql.sql.plan import Plan
from taskctx_sql.sql.postgres_connection import Connections, Work, execute_in_transaction, execute_to_read
from taskctx_sql.sql.retry import deadline, in_turn
from taskctx_sql.sql.save import SaveRequest
from taskctx_sql.sql.save.postgres_writer import PostgresWriter

T = TypeVar("T")


class PostgresBackend(Backend):
    """See `Backend`."""

    def __init__(
        self,
        engine: AsyncEngine,
        schema: str | None,
        retry_seconds: float,
        *,
        transaction_pooling: bool = False,
        owns_engine: bool = True,
    ) -> None:
        super().__init__(
            engine, schema, retry_seconds, transaction_pooling=transaction_pooling, owns_engine=owns_engine
        )
        self._connections = Connections(engine, schema, pooled=transaction_pooling, keeps=owns_engine)
        self._parts.append(self._connections.close)
        self._writer: PostgresWriter | None = None

    def save(self, request: SaveRequest) -> Awaitable[Saved]:
        """See `Backend.save`."""
        return self._open_writer().save(request)

    def save_all(self, requests: Sequence[SaveRequest]) -> Awaitable[list[Saved]]:
        """See `Backend.save_all`."""
        return self._open_writer().save_all(requests)

    def _open_writer(self) -> PostgresWriter:
        if self._writer is None:
            # Not before `check` has found out whether the tables are distributed.
            self._writer = PostgresWriter(self._connections, self.database_url, distributed=self.is_distributed)
            self._parts.append(self._writer.close)
        return self._writer

    async def read(self, plan: Plan[T], rls_user: str | None) -> T:
        """See `Backend.read`."""
        async with in_turn(self._turns.read):
            work = partial(execute_to_read, plan, self.schema, rls_user)
            return await self._connections.use(work, deadline(), writes=False)

    async def write(self, plan: Plan[T], rls_user: str | None) -> T:
        """See `Backend.write`."""
        work = partial(execute_in_transaction, plan, self.schema, rls_user)
        return await finished(self._write(work))

    async def _write(self, work: Work[T]) -> T:
        async with in_turn(self._turns.write):
            return await self._connections.use(work, deadline(), writes=True)
