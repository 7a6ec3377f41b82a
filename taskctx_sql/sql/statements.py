"""What the store reads and erases: one function for each statement, on one connection."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from taskctx_sql.records import ContextSummary
from taskctx_sql.sql.rows import AnyRow
from taskctx_sql.sql.tables import contexts, files, models, runs, updates


async def read_context(connection: AsyncConnection, ident: str) -> AnyRow | None:
    """Return (revision, created_at, metadata, metadata_toggles), or None if the context is not there."""
    result = await connection.execute(
        sa.select(contexts.c.revision, contexts.c.created_at, contexts.c.metadata, contexts.c.metadata_toggles).where(
            contexts.c.context_id == ident
        )
    )
    return result.one_or_none()


async def read_updates(
    connection: AsyncConnection,
    ident: str,
    *,
    revision: int | None,
    after: int = 0,
    before: int | None = None,
    newest_first: bool = False,
    limit: int | None = None,
) -> Sequence[AnyRow]:
    """Return (seq, timestamp, update_type, data, metadata, exact) in the order asked for."""
    statement = sa.select(
        updates.c.seq,
        updates.c.timestamp,
        updates.c.update_type,
        updates.c.data,
        updates.c.metadata,
        updates.c.exact,
    ).where(updates.c.context_id == ident, updates.c.seq > after, *_as_of(updates, revision))
    if before is not None:
        statement = statement.where(updates.c.seq < before)
    order = updates.c.seq.desc() if newest_first else updates.c.seq
    result = await connection.execute(statement.order_by(order).limit(limit))
    return result.all()


async def read_files(connection: AsyncConnection, ident: str, revision: int) -> Sequence[AnyRow]:
    """Return the tracked files, in the tracker's order."""
    statement = sa.select(files).where(files.c.context_id == ident, *_as_of(files, revision))
    return (await connection.execute(statement.order_by(files.c.position))).all()


async def read_models(connection: AsyncConnection, ident: str, revision: int) -> Sequence[AnyRow]:
    """Return the model uses, in order."""
    statement = sa.select(models).where(models.c.context_id == ident, *_as_of(models, revision))
    return (await connection.execute(statement.order_by(models.c.seq))).all()


async def list_contexts(
    connection: AsyncConnection, user_id: str, after: tuple[float, str] | None, limit: int
) -> Sequence[AnyRow]:
    """Return (user_id, chat_id, revision, created_at, updated_at), newest first, after (created_at, context_id)."""
    statement = sa.select(
        contexts.c.user_id,
        contexts.c.chat_id,
        contexts.c.revision,
        contexts.c.created_at,
        contexts.c.updated_at,
    ).where(contexts.c.user_id == user_id)
    if after is not None:
        statement = statement.where(sa.tuple_(contexts.c.created_at, contexts.c.context_id) < sa.tuple_(*after))
    statement = statement.order_by(contexts.c.created_at.desc(), contexts.c.context_id.desc()).limit(limit)
    return (await connection.execute(statement)).all()


async def erase(connection: AsyncConnection, ident: str) -> bool:
    """Delete a context's rows from every table; return whether it was there."""
    # The context first: its lock holds back a save that would add rows meanwhile.
    deleted = await connection.execute(sa.delete(contexts).where(contexts.c.context_id == ident))
    for table in (updates, files, models, runs):
        await connection.execute(sa.delete(table).where(table.c.context_id == ident))
    return bool(deleted.rowcount)


def summary(row: AnyRow) -> ContextSummary:
    """Return a row of `list_contexts` as the record it is."""
    return ContextSummary(*row)


def _as_of(table: sa.Table, revision: int | None) -> list[sa.ColumnElement[bool]]:
    """The condition for what the context holds in a revision; None is now.

    By revision, several statements agree on one moment without a transaction that holds it for them.
    """
    if revision is None:
        return [table.c.removed_in.is_(None)]
    return [table.c.added_in <= revision, sa.or_(table.c.removed_in.is_(None), table.c.removed_in > revision)]
