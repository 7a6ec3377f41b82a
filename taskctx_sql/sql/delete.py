"""Deleting a context with all of its rows."""

from __future__ import annotations

from functools import cache

import sqlalchemy as sa

from taskctx_sql.model import ContextKey
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.plan import Plan, Statement, Step, deletion, read_value, text
from taskctx_sql.sql.retry import allow
from taskctx_sql.sql.schema import contexts, files, models, revisions, runs, state, updates
from taskctx_sql.sql.sizes import count_rows


def delete(key: ContextKey) -> Plan[bool]:
    """Return the plan that deletes a context's rows from every table, and returns whether it existed."""
    parameters = {"context": row_codec.context_id(key)}
    # Locked, so that no save adds rows meanwhile.
    revision = yield from read_value(_lock_context(), parameters)
    if revision is None:
        # Nothing is locked: what a save creates from now on must stay as it is.
        return False
    allow((yield from count_rows(parameters["context"])))
    # Its own row goes last: row-level security hides the rows of a context that does not exist, so they would remain.
    for table in (updates, files, models, state, runs, revisions, contexts):
        yield Step(deletion(table), parameters)
    return bool(revision)


@cache
def _lock_context() -> Statement:
    return sa.select(contexts.c.revision).where(contexts.c.context_id == text("context")).with_for_update()
