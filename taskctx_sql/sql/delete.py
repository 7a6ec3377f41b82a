"""Deleting a context with all of its rows."""

from __future__ import annotations

from functools import cache

import sqlalchemy as sa

from taskctx_sql.model import ContextKey
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.plan import Plan, Statement, Step, deletion, text
from taskctx_sql.sql.retry import allow
from taskctx_sql.sql.schema import contexts, files, models, revisions, runs, updates


def delete(key: ContextKey) -> Plan[bool]:
    """Return the plan that deletes a context's rows from every table, and returns whether it existed."""
    parameters = {"context": row_codec.context_id(key)}
    # Locked, so that no save adds rows meanwhile. Its own row goes last: row-level security hides the rows of a
    # context that does not exist, so they would remain.
    rows = yield Step(_lock_context(), parameters, reads=True)
    if rows:
        allow(sum(rows[0][1:]))
    for table in (updates, files, models, runs, revisions, contexts):
        yield Step(deletion(table), parameters)
    return bool(rows and rows[0][0] > 0)


@cache
def _lock_context() -> Statement:
    sizes = (contexts.c.next_seq, contexts.c.next_model, contexts.c.next_position)
    return sa.select(contexts.c.revision, *sizes).where(contexts.c.context_id == text("context")).with_for_update()
