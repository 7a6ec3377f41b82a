"""Making an earlier state current again, within the database and as a new revision.

Nothing is erased, and no row changes except for its ``removed_in``. What the state has already stays. An entry that
is missing is written again, as a copy with a new seq. The order of the history is that of the seqs, so everything
that follows it is copied as well. A copy keeps in ``copy_of`` its root: the seq that its entry was first written
under. Roots rise along a history, so states are compared and merged by them, except after an edit: the rows that an
edit writes anew are their own roots, although they precede what was removed earlier. An undo then goes by time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from taskctx_sql.context import mappings
from taskctx_sql.errors import NothingToUndoError, RevisionNotFoundError
from taskctx_sql.model import Delta
from taskctx_sql.sql.history.restore_files import files_then, files_without
from taskctx_sql.sql.history.restore_rows import Wanted, restore_rows, was_there, would_be_there
from taskctx_sql.sql.load import as_of
from taskctx_sql.sql.plan import Plan, Statement, Step, number, text
from taskctx_sql.sql.retry import allow
from taskctx_sql.sql.schema import models, revisions, updates

_UNDOABLE: Final = ("optimize", "truncate", "restore")


class Restored(NamedTuple):
    """The result of a restore.

    Attributes:
        next_seq: The context's next seq, after the copies.
        next_model: The seq of its next model use.
        metadata: Its metadata, if they changed.
        toggles: Its metadata toggles, if they changed.
        source: The revision that became current, or that was undone.
        added: The number of updates that came back, without those that were only copied for the order.
        removed: The number of updates removed.
    """

    next_seq: int
    next_model: int
    metadata: str | None
    toggles: str | None
    source: int
    added: int
    removed: int


def restore(
    engine: str, context_id: str, delta: Delta, revision: int, next_seq: int, next_model: int
) -> Plan[Restored]:
    """Return the plan of a restore or an undo, for the transaction of a save that holds the context's lock.

    Args:
        engine: The dialect's name.
        context_id: The context.
        delta: The restore or the undo.
        revision: The revision that it creates.
        next_seq: The context's next seq.
        next_model: The seq of its next model use.

    Raises:
        RevisionNotFoundError: The revision to restore does not exist, or was pruned.
        NothingToUndoError: There is nothing to undo.
    """
    if delta.operation == "restore":
        assert delta.source_revision is not None
        source = then = delta.source_revision
        mode = _RESTORE
        yield from as_of.check_not_pruned(delta.key, source, revision - 1)
        if (yield from as_of.counters(context_id, source)) is None:
            raise RevisionNotFoundError(delta.key, source, revision - 1)
    else:
        source = then = yield from _last_operation(context_id, delta)
        mode = _UNDO
        if (yield from _only_operations_since(context_id, source)):
            mode, then = _RESTORE, source - 1
    by_time = mode is _UNDO and (yield from _was_edited_since(context_id, source))
    allow(next_seq + next_model)
    known = {"context": context_id, "then": then, "now": revision, "run": delta.run.run_id}
    seq, added, removed = yield from restore_rows(engine, mode.wanted, updates, known, next_seq, by_time=by_time)
    model, _, _ = yield from restore_rows(engine, mode.wanted, models, known, next_model, by_time=by_time)
    yield from mode.files(engine, known)
    metadata = yield from mode.mapping(context_id, then, "metadata")
    toggles = yield from mode.mapping(context_id, then, "metadata_toggles")
    return Restored(seq, model, metadata, toggles, source, added, removed)


def _last_operation(context_id: str, delta: Delta) -> Plan[int]:
    """Return the plan that finds the newest revision that can be undone and was not."""
    rows = yield Step(_select_operations(), {"context": context_id}, reads=True)
    undone: set[int] = set()
    for revision, operation, source in rows or ():
        if operation == "undo":
            undone.add(source)
        elif operation in _UNDOABLE and revision not in undone:
            if (yield from as_of.pruned_until(context_id)) >= revision:
                # The rows that it removed are gone.
                break
            return int(revision)
    raise NothingToUndoError(delta.key)


def _only_operations_since(context_id: str, source: int) -> Plan[bool]:
    """Return the plan that reads whether no save followed a revision: then an undo restores the one before it."""
    counted = yield Step(_count_saves_since(), {"context": context_id, "then": source}, reads=True)
    pruned = yield from as_of.pruned_until(context_id)
    return pruned < source and not (counted and counted[0][0])


def _was_edited_since(context_id: str, source: int) -> Plan[bool]:
    """Return the plan that reads whether saves after a revision may have written rows anew."""
    counted = yield Step(_count_removed_since(), {"context": context_id, "then": source}, reads=True)
    return bool(counted and counted[0][0])


def _mapping_then(context_id: str, then: int, column: str) -> Plan[str | None]:
    before = yield from as_of.mapping_at(context_id, then, column)
    now = yield from as_of.mapping_at(context_id, as_of.LAST_REVISION, column)
    return None if before == now else before


def _mapping_without(context_id: str, then: int, column: str) -> Plan[str | None]:
    changed = yield Step(_select_mapping_changes(column), {"context": context_id, "then": then}, reads=True)
    if then not in {row[0] for row in changed or ()}:
        return None
    before = yield from as_of.mapping_at(context_id, then - 1, column)
    after = yield from as_of.mapping_at(context_id, then, column)
    now = yield from as_of.mapping_at(context_id, as_of.LAST_REVISION, column)
    result = mappings.taken_back(before, after, now)
    return None if result == now else result


class _Mode(NamedTuple):
    """The parts in which a restore and an undo differ."""

    wanted: Wanted
    files: Callable[[str, dict[str, Any]], Plan[None]]
    mapping: Callable[[str, int, str], Plan[str | None]]


_RESTORE: Final = _Mode(was_there, files_then, _mapping_then)
_UNDO: Final = _Mode(would_be_there, files_without, _mapping_without)


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
    edits = sa.select(revisions.c.revision).where(
        revisions.c.context_id == text("context"),
        revisions.c.revision > number("then"),
        revisions.c.operation.is_(None),
    )
    removed = (updates.c.removed_in > number("then"), updates.c.removed_in.in_(edits))
    return sa.select(sa.func.count()).where(updates.c.context_id == text("context"), *removed)


@cache
def _select_mapping_changes(column: str) -> Statement:
    value = revisions.c[column]
    return sa.select(revisions.c.revision).where(
        revisions.c.context_id == text("context"), revisions.c.revision >= number("then"), value.is_not(None)
    )
