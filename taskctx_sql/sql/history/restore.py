"""Restoring an earlier state, within the database and as a new revision.

Nothing is erased, and no row changes except for its ``removed_in``. What the state has already stays. An entry that
is missing is written again, as a copy with a new seq. The order of the history is that of the seqs, so everything
that follows it is copied as well. A copy keeps in ``copy_of`` its root: the seq that its entry was first written
under. Roots rise along a history, so states are compared and merged by them, except after an edit: the rows that an
edit writes anew are their own roots, although they precede what was removed earlier. An undo then goes by time.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import sqlalchemy as sa

from taskctx_sql.context import mappings
from taskctx_sql.errors import NothingToUndoError
from taskctx_sql.model import Delta
from taskctx_sql.sql.history.restore_rows import restore_rows, was_there, would_be_there
from taskctx_sql.sql.history.restore_versions import versions_then, versions_without
from taskctx_sql.sql.load import as_of
from taskctx_sql.sql.plan import Plan, Statement, Step, number, read_value, text
from taskctx_sql.sql.retry import allow
from taskctx_sql.sql.schema import models, revisions, updates
from taskctx_sql.sql.sizes import count_rows


class Restored(NamedTuple):
    """The result of a restore: the context's next numbers, and its mappings as far as they changed.

    ``source`` is the revision that became current, or that was undone. ``added`` does not count the updates that were
    only copied for the order. ``changed_state`` is how many named values and labels changed.
    """

    next_seq: int
    next_model: int
    metadata: str | None
    toggles: str | None
    source: int
    added: int
    removed: int
    changed_state: int


def restore(
    engine: str, context_id: str, delta: Delta, revision: int, next_seq: int, next_model: int
) -> Plan[Restored]:
    """Return the plan of a restore or an undo, for the transaction of a save that holds the context's lock.

    ``revision`` is the one that it creates. The plan raises RevisionNotFoundError or NothingToUndoError.
    """
    if delta.operation == "restore":
        assert delta.source_revision is not None
        source = then = delta.source_revision
        undoes = by_time = False
        yield from as_of.counters(delta.key, source, revision - 1)
    else:
        source = then = yield from _last_operation(context_id, delta)
        since = {"context": context_id, "then": source}
        undoes = bool((yield from read_value(_count_saves_since(), since)))
        undoes = undoes or (yield from as_of.pruned_until(context_id)) >= source
        if not undoes:
            # No save followed the operation: the revision before it is restored.
            then = source - 1
        # Saves since then may have written rows anew.
        by_time = undoes and bool((yield from read_value(_count_removed_since(), since)))
    allow((yield from count_rows(context_id)))
    known = {"context": context_id, "then": then, "now": revision, "run": delta.run.run_id}
    wanted = would_be_there if undoes else was_there
    seq, added, removed = yield from restore_rows(engine, wanted, updates, known, next_seq, by_time=by_time)
    model, _, _ = yield from restore_rows(engine, wanted, models, known, next_model, by_time=by_time)
    changed_state = yield from (versions_without if undoes else versions_then)(known)
    mapping = _mapping_without if undoes else _mapping_then
    metadata = yield from mapping(context_id, then, "metadata")
    toggles = yield from mapping(context_id, then, "metadata_toggles")
    return Restored(seq, model, metadata, toggles, source, added, removed, changed_state)


def _last_operation(context_id: str, delta: Delta) -> Plan[int]:
    """Return the plan that finds the newest revision that can be undone and was not."""
    rows = yield Step(_select_operations(), {"context": context_id}, reads=True)
    undone: set[int] = set()
    for revision, operation, source in rows or ():
        if operation == "undo":
            undone.add(source)
        elif operation in ("optimize", "truncate", "restore") and revision not in undone:
            if (yield from as_of.pruned_until(context_id)) >= revision:
                # The rows that it removed are gone.
                break
            return int(revision)
    raise NothingToUndoError(delta.key)


def _mapping_then(context_id: str, then: int, column: str) -> Plan[str | None]:
    before = yield from as_of.mapping_at(context_id, then, column)
    now = yield from as_of.mapping_at(context_id, as_of.LAST_REVISION, column)
    return None if before == now else before


def _mapping_without(context_id: str, then: int, column: str) -> Plan[str | None]:
    after = yield from read_value(_select_changed_mapping(column), {"context": context_id, "then": then})
    if after is None:
        return None
    before = yield from as_of.mapping_at(context_id, then - 1, column)
    now = yield from as_of.mapping_at(context_id, as_of.LAST_REVISION, column)
    result = mappings.taken_back(before, after, now)
    return None if result == now else result


@cache
def _select_operations() -> Statement:
    columns = (revisions.c.revision, revisions.c.operation, revisions.c.source_revision)
    statement = sa.select(*columns).where(revisions.c.context_id == text("context"), revisions.c.operation.is_not(None))
    return statement.order_by(revisions.c.revision.desc())


@cache
def _count_saves_since() -> Statement:
    since = (revisions.c.revision > number("then"), revisions.c.operation.is_(None))
    return sa.select(sa.func.count()).where(revisions.c.context_id == text("context"), *since)


@cache
def _count_removed_since() -> Statement:
    since = (revisions.c.revision > number("then"), revisions.c.operation.is_(None))
    edits = sa.select(revisions.c.revision).where(revisions.c.context_id == text("context"), *since)
    removed = (updates.c.removed_in > number("then"), updates.c.removed_in.in_(edits))
    return sa.select(sa.func.count()).where(updates.c.context_id == text("context"), *removed)


@cache
def _select_changed_mapping(column: str) -> Statement:
    then = revisions.c.revision == number("then")
    return sa.select(revisions.c[column]).where(revisions.c.context_id == text("context"), then)
