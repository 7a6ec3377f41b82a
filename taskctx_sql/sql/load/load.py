"""Loading a context, as it is or as of an earlier revision."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from taskctx_sql.errors import ContextNotFoundError, RevisionNotFoundError
from taskctx_sql.model import ContextKey, Loaded, Selection
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.context_row import UNSEEN, Base
from taskctx_sql.sql.load import as_of
from taskctx_sql.sql.load.pages import select_updates
from taskctx_sql.sql.load.window import read_window
from taskctx_sql.sql.plan import Plan, Statement, Step
from taskctx_sql.sql.retry import allow
from taskctx_sql.sql.schema import files, models


class _State(NamedTuple):
    """A context as of a revision, without its rows."""

    revision: int
    next_seq: int
    next_model: int
    next_position: int
    metadata: str
    metadata_toggles: str


def load(engine: str, key: ContextKey, selection: Selection) -> Plan[Loaded]:
    """Return the plan that loads a context.

    Its first statements read the revision, and the others what belongs to that revision. So they agree whatever is
    saved meanwhile, and the transaction need not provide a snapshot.
    """
    context_id = row_codec.context_id(key)
    select = as_of.select_current("created_at", *_State._fields)
    context_row = yield Step(select, {"context": context_id}, reads=True)
    if not context_row:
        if selection.is_past:
            raise ContextNotFoundError(key)
        return Loaded(revision=0, base=UNSEEN)
    created_at, *state = context_row[0]
    now = _State(*state)
    revision, next_seq, next_model, next_position, metadata, toggles = (
        (yield from _earlier(key, selection, now)) if selection.is_past else now
    )
    if selection.history_limit is None or selection.chooses:
        allow(next_seq + next_model + next_position)
    then = {"context": context_id, "revision": revision}
    if selection.chooses:
        update_rows, earlier = yield from read_window(engine, then, next_seq, selection)
    else:
        update_rows, earlier = yield from _newest(engine, then, next_seq, selection.history_limit)
    # A context that never tracked anything needs no queries for it.
    file_rows = (yield Step(select_tracked(files), then, reads=True)) if next_position > 1 else ()
    model_rows = (yield Step(select_tracked(models), then, reads=True)) if next_model > 1 else ()
    if not (yield from as_of.is_still_there(engine, context_id, created_at)):
        # It was deleted meanwhile, and may have been created again.
        return (yield from load(engine, key, selection))
    if revision < now.revision:
        # It may have been pruned while it was read.
        yield from as_of.check_not_pruned(key, revision, now.revision)
    history = row_codec.read_updates(key, update_rows)
    return Loaded(
        revision=revision,
        created_at=created_at,
        base=Base(created_at, revision, now.revision, (next_seq, next_model, next_position)),
        history=history.updates,
        seqs=history.seqs,
        edits=history.edits,
        earlier=earlier,
        models=row_codec.read_models(key, model_rows or ()),
        files=row_codec.read_files(key, file_rows or ()),
        metadata=row_codec.read_json(key, "metadata", metadata),
        toggles=row_codec.read_json(key, "metadata_toggles", toggles),
    )


def _earlier(key: ContextKey, selection: Selection, now: _State) -> Plan[_State]:
    """Return the plan that reads the earlier state that is selected."""
    context_id = row_codec.context_id(key)
    revision = selection.revision
    if revision is None:
        assert selection.at is not None
        revision = yield from as_of.newest_at(context_id, selection.at)
        if revision is None:
            raise RevisionNotFoundError(key, float(selection.at), now.revision)
    if revision == now.revision:
        return now
    counters = yield from as_of.counters(key, revision, now.revision)
    metadata = yield from as_of.mapping_at(context_id, revision, "metadata")
    toggles = yield from as_of.mapping_at(context_id, revision, "metadata_toggles")
    return _State(revision, *counters, metadata, toggles)


def _newest(
    engine: str, then: dict[str, Any], next_seq: int, history_limit: int | None
) -> Plan[tuple[Sequence[Any], bool]]:
    """Return the plan that reads the newest updates, the oldest first, and whether there are earlier ones.

    By a range of seqs, not by LIMIT: a planner that knows too little of the table would sort the whole history.
    """
    rows: Sequence[Any] = []
    # One more than wanted, which shows whether there are earlier ones.
    low, high = (1 if history_limit is None else next_seq - history_limit - 1), next_seq
    while True:
        bounds = {**then, "low": low, "high": high}
        rows = [*((yield Step(select_updates(engine), bounds, reads=True)) or ()), *rows]
        if history_limit is None:
            return rows, False
        if low <= 1 or len(rows) > history_limit:
            return rows[-history_limit:] if history_limit else [], len(rows) > history_limit
        # The range contains removed updates: read further back, in growing ranges.
        low, high = low - 4 * (next_seq - low), low


@cache
def select_tracked(table: sa.Table) -> Statement:
    """Return the SELECT of the tracked files or the model uses as of "revision", in the columns of `row_codec`."""
    names, order = (row_codec.FILE_COLUMNS, "position") if table is files else (row_codec.MODEL_COLUMNS, "seq")
    return sa.select(*(table.c[name] for name in names)).where(*as_of.in_revision(table)).order_by(table.c[order])
