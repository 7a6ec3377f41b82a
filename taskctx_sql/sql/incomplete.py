"""Incomplete contexts: those that are being copied in for the first time, and those that are being deleted.

Their row has revision 0, which no saved context has, and readers ignore it. A save that creates the context anew first
deletes what is left of it, in the same transaction; a copy or deletion under way then sees another row, and stops.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import sqlalchemy as sa

from taskctx_sql.sql.plan import Plan, Statement, Step, deletion, text
from taskctx_sql.sql.schema import contexts, files, models, revisions, runs, state, updates

# The tables that hold a context's rows, beside its own.
PARTS: Final = (updates, models, files, state, revisions, runs)
# As the time of creation, so that a program that still has the context in memory sees that it is another one.
REMOVED_AT: Final = -1.0


def is_there() -> sa.ColumnElement[bool]:
    """Return the condition for contexts that are complete."""
    return contexts.c.revision > 0


def hide(context_id: str) -> Plan[None]:
    """Return the plan that makes a context, whose lock is held, one that is being deleted."""
    yield Step(_reset(), {"context": context_id, "removed_at": REMOVED_AT, "at": 0.0})


def replace(context_id: str, at: float) -> Plan[None]:
    """Return the plan that deletes an incomplete context, whose lock is held, but keeps its row for a new one."""
    for table in PARTS:
        yield Step(deletion(table), {"context": context_id})
    yield Step(_reset(), {"context": context_id, "removed_at": at, "at": at})


def clear(context_id: str) -> Plan[bool]:
    """Return the plan that deletes an incomplete context; its result is whether there was one."""
    if not (yield Step(_lock(), {"context": context_id}, reads=True)):
        return False
    # Its own row goes last: under row-level security, rows without it belong to nobody, and could not be deleted.
    for table in (*PARTS, contexts):
        yield Step(deletion(table), {"context": context_id})
    return True


@cache
def _lock() -> Statement:
    mine = (contexts.c.context_id == text("context"), sa.not_(is_there()))
    return sa.select(contexts.c.context_id).where(*mine).with_for_update()


@cache
def _reset() -> Statement:
    statement = sa.update(contexts).where(contexts.c.context_id == text("context"))
    return statement.values(
        **dict.fromkeys(("next_seq", "next_model", "next_position"), sa.literal_column("1", sa.BigInteger)),
        **dict.fromkeys(("metadata", "metadata_toggles"), sa.literal_column("'{}'", sa.Text)),
        revision=sa.literal_column("0", sa.BigInteger),
        pruned_until=sa.null(),
        created_at=sa.bindparam("removed_at", type_=sa.Double),
        updated_at=sa.bindparam("at", type_=sa.Double),
    )
