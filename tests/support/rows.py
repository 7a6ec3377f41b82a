"""All rows of a user, table by table."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from taskctx_sql import SqlStore
from taskctx_sql.sql.schema import tables


async def rows_of(store: SqlStore, table: sa.Table, user: str) -> list[tuple[Any, ...]]:
    """All rows of a user in a table, in the order of its key."""
    chosen = sa.select(tables.contexts.c.context_id).where(tables.contexts.c.user_id == user)
    statement = sa.select(table).where(table.c.context_id.in_(chosen)).order_by(*table.primary_key.columns)
    return [tuple(row) for row in await store.query(statement)]


async def everything(store: SqlStore, user: str) -> dict[str, list[tuple[Any, ...]]]:
    return {table.name: await rows_of(store, table, user) for table in tables.metadata.sorted_tables}
