"""Contexts that are half there: those that are being copied in for the first time, and those that are being removed.

Their row says revision 0, which no context has that somebody saved. To everybody who reads they are not there. Whoever
makes a context in their place clears what is left of them first, in the same transaction; who was at work on them finds
another row, and stops.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import sqlalchemy as sa

from taskctx_sql.sql.plan import Plan, Statement, Step, text
from taskctx_sql.sql.schema import contexts, files, models, revisions, runs, updates

# All that a context has beside its row.
PARTS: Final = (updates, models, files, revisions, runs)
# No context was made then: a program that still has the context in memory finds another one.
REMOVED_AT: Final = -1.0


def is_there() -> sa.ColumnElement[bool]:
    """Return the condition for contexts that are not half there."""
    return contexts.c.revision > 0


def hide(context_id: str) -> Plan[None]:
    """Return the steps that make a context, whose lock is held, one that is being removed."""
    yield Step(_hide(), {"context": context_id, "removed_at": REMOVED_AT, "at": 0.0})


def replace(context_id: str, at: float) -> Plan[None]:
    """Return the steps that clear what is left of a half context, whose lock is held, and make its row a new one's."""
    for table in PARTS:
        yield Step(_delete(table), {"context": context_id})
    yield Step(_hide(), {"context": context_id, "removed_at": at, "at": at})


def clear(context_id: str) -> Plan[bool]:
    """Return the steps that delete a half context, and tell if there was one."""
    if not (yield Step(_lock(), {"context": context_id}, reads=True)):
        return False
    # The row goes last: under row-level security what is left of a context that is gone is nobody's, and would stay.
    for table in (*PARTS, contexts):
        yield Step(_delete(table), {"context": context_id})
    return True


@cache
def _lock() -> Statement:
    half = sa.select(contexts.c.context_id).where(contexts.c.context_id == text("context"), sa.not_(is_there()))
    return half.with_for_update()


@cache
def _delete(table: sa.Table) -> Statement:
    return sa.delete(table).where(table.c.context_id == text("context"))


@cache
def _hide() -> Statement:
    nothing = sa.literal_column("'{}'", sa.Text)
    first = sa.literal_column("1", sa.BigInteger)
    return (
        sa.update(contexts)
        .where(contexts.c.context_id == text("context"))
        .values(
            revision=sa.literal_column("0", sa.BigInteger),
            next_seq=first,
            next_model=first,
            next_position=first,
            metadata=nothing,
            metadata_toggles=nothing,
            pruned_until=sa.null(),
            created_at=sa.bindparam("removed_at", type_=sa.Double),
            updated_at=sa.bindparam("at", type_=sa.Double),
        )
    )
