"""The list of a context's revisions."""

from __future__ import annotations

from functools import cache

import sqlalchemy as sa

from taskctx_sql.model import ContextKey, Revision
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.load import as_of
from taskctx_sql.sql.plan import Plan, Statement, Step, number, read_value, text
from taskctx_sql.sql.schema import revisions, updates


def list_revisions(engine: str, key: ContextKey, before: int | None, limit: int) -> Plan[list[Revision]]:
    """Return the plan that lists revisions, the newest first."""
    context_id = row_codec.context_id(key)
    newest, created_at = yield from as_of.current(key, "revision", "created_at")
    high = newest + 1 if before is None else min(before, newest + 1)
    # One more than wanted, because its next seq shows what the oldest of them added.
    bounds = {"context": context_id, "low": high - limit - 1, "high": high}
    rows = (yield Step(_select_revisions(), bounds, reads=True)) or ()
    listed = []
    for index, row in enumerate(rows[:limit]):
        revision, saved_at, run_id, next_seq, added, removed, changed_state, changed_metadata, *origin = row
        first_seq = rows[index + 1][3] if index + 1 < len(rows) else 1
        if added is None and revision > 1 and index + 1 == len(rows):
            # The revision before is not in the table, which is newer than the database.
            added = yield from read_value(_count_added(), {"context": context_id, "revision": revision})
        added = next_seq - first_seq if added is None else added
        changed = (bool(changed_metadata), changed_state or 0)
        listed.append(Revision(revision, saved_at, run_id, added, removed or 0, *changed, *origin))
    if not (yield from as_of.is_still_there(engine, context_id, created_at)):
        # It was deleted meanwhile, and may have been created again.
        return (yield from list_revisions(engine, key, before, limit))
    return listed


@cache
def _select_revisions() -> Statement:
    names = ("revision", "saved_at", "run_id", "next_seq", "added", "removed", "changed_state")
    columns = [revisions.c[name] for name in names]
    changed = sa.or_(revisions.c.metadata.is_not(None), revisions.c.metadata_toggles.is_not(None))
    origin = (revisions.c.operation, revisions.c.source_revision, revisions.c.source_chat_id)
    between = (revisions.c.revision >= number("low"), revisions.c.revision < number("high"))
    statement = sa.select(*columns, changed.label("changed"), *origin)
    return statement.where(revisions.c.context_id == text("context"), *between).order_by(revisions.c.revision.desc())


@cache
def _count_added() -> Statement:
    conditions = (updates.c.context_id == text("context"), updates.c.added_in == number("revision"))
    return sa.select(sa.func.count()).select_from(updates).where(*conditions)
