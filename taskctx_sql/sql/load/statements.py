"""What loading, listing and erasing do, statement by statement."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from taskctx_sql.errors import ContextNotFoundError, RevisionNotFoundError
from taskctx_sql.model import ContextKey, ContextSummary, Loaded, Selection, StoredUpdate
from taskctx_sql.sql import engines, incomplete, row_codec
from taskctx_sql.sql.context_row import UNSEEN, Base
from taskctx_sql.sql.load import as_of, window
from taskctx_sql.sql.load.as_of import in_revision
from taskctx_sql.sql.plan import Plan, Statement, Step, number, text
from taskctx_sql.sql.retry import allow
from taskctx_sql.sql.schema import contexts, files, models, revisions, runs, updates

PAGE_SIZE: Final = 500


@cache
def update_columns(engine: str) -> tuple[sa.ColumnElement[Any], ...]:
    """Return what `rows.read_updates` takes."""
    between = sa.literal_column(f"'{row_codec.BETWEEN}'", sa.Text)
    # In one column, as UTF-8: in memory it is smaller than two texts.
    joined = engines.as_utf8(engine, updates.c.data.concat(between).concat(updates.c.metadata)).label("text")
    return updates.c.seq, updates.c.timestamp, updates.c.update_type, joined, updates.c.exact


class _State(NamedTuple):
    """A context in one of its revisions, without its rows."""

    revision: int
    next_seq: int
    next_model: int
    next_position: int
    metadata: str
    toggles: str


def load(engine: str, key: ContextKey, selection: Selection) -> Plan[Loaded]:
    """Return the steps that load a context as it is at one moment, or was in an earlier revision.

    The first ones find the revision, and the others read that revision, whatever is saved meanwhile: so they agree
    without a transaction that holds the moment for them.

    Raises:
        ContextNotFoundError: An earlier state of no context.
        RevisionNotFoundError: It has no such state, or what was removed since was pruned.
        CorruptRecordError: A row cannot be read back.
    """
    while (loaded := (yield from _load(engine, key, selection))) is None:
        # It was deleted while it was read, and may have been made anew.
        pass
    return loaded


def _load(engine: str, key: ContextKey, selection: Selection) -> Plan[Loaded | None]:
    context_id = row_codec.context_id(key)
    found_head = yield Step(_context(), {"context": context_id}, reads=True)
    if not found_head:
        if selection.is_past:
            raise ContextNotFoundError(key)
        return Loaded(revision=0, base=UNSEEN)
    created_at, *state = found_head[0]
    now = _State(*state)
    revision, next_seq, next_model, next_position, metadata, toggles = (
        (yield from _earlier(key, selection, now)) if selection.is_past else now
    )
    if selection.history_limit is None or selection.chooses:
        allow(next_seq + next_model + next_position)
    then = {"context": context_id, "revision": revision}
    if selection.chooses:
        found, earlier = yield from window.chosen(engine, then, next_seq, selection, update_columns(engine))
    else:
        found, earlier = yield from _newest(engine, then, next_seq, selection.history_limit)
    # Who never tracked anything is not asked for it.
    found_files = (yield Step(_files(), then, reads=True)) if next_position > 1 else ()
    found_models = (yield Step(_models(), then, reads=True)) if next_model > 1 else ()
    if not (yield from as_of.is_still_there(engine, context_id, created_at)):
        return None
    if revision < now.revision:
        # Somebody may have pruned it while it was read.
        yield from as_of.check_whole(key, revision, now.revision)
    history = row_codec.read_updates(key, found)
    return Loaded(
        revision=revision,
        base=Base(created_at, revision, now.revision),
        history=history.updates,
        seqs=history.seqs,
        edits=history.edits,
        earlier=earlier,
        models=row_codec.read_models(key, found_models or ()),
        files=row_codec.read_files(key, found_files or ()),
        metadata=row_codec.read_mapping(key, "metadata", metadata),
        toggles=row_codec.read_mapping(key, "metadata_toggles", toggles),
    )


def _earlier(key: ContextKey, selection: Selection, now: _State) -> Plan[_State]:
    """Return the steps that find the state that is asked for."""
    context_id = row_codec.context_id(key)
    revision = selection.revision
    if revision is None:
        assert selection.at is not None
        revision = yield from as_of.newest_at(context_id, selection.at)
        if revision is None:
            raise RevisionNotFoundError(key, float(selection.at), now.revision)
    yield from as_of.check_whole(key, revision, now.revision)
    if revision == now.revision:
        return now
    place = yield from as_of.find(context_id, revision)
    if place is None:
        raise RevisionNotFoundError(key, revision, now.revision)
    metadata = yield from as_of.mapping_at(context_id, revision, "metadata")
    toggles = yield from as_of.mapping_at(context_id, revision, "metadata_toggles")
    return _State(revision, *place, metadata, toggles)


def _newest(
    engine: str, then: dict[str, Any], next_seq: int, history_limit: int | None
) -> Plan[tuple[Sequence[Any], bool]]:
    """Return the steps that read the newest updates, oldest first, and whether there are earlier ones.

    Between two seqs, and not with a LIMIT: a planner that knows too little of a table would sort the whole history.
    """
    found: Sequence[Any] = []
    # One more than asked for tells if there are earlier ones.
    low, high = (1 if history_limit is None else next_seq - history_limit - 1), next_seq
    while True:
        found = [*((yield Step(_updates(engine), {**then, "low": low, "high": high}, reads=True)) or ()), *found]
        if history_limit is None:
            return found, False
        if low <= 1 or len(found) > history_limit:
            return found[-history_limit:] if history_limit else [], len(found) > history_limit
        # Rows that were removed lie between: look further back, in larger and larger steps.
        low, high = low - 4 * (next_seq - low), low


def page(
    engine: str, key: ContextKey, created_at: float | None, low: int, high: int, newest_first: bool
) -> Plan[list[StoredUpdate] | None]:
    """Return the steps that read the updates with ``low <= seq < high`` as they are now.

    None if the context was deleted since it was looked at: what is there may be half of it, or another one's.

    Raises:
        CorruptRecordError: A row cannot be read back.
    """
    bounds = {"context": row_codec.context_id(key), "revision": as_of.LAST_REVISION, "low": low, "high": high}
    found = (yield Step(_updates(engine), bounds, reads=True)) or []
    if created_at is None or not (yield from as_of.is_same(row_codec.context_id(key), created_at)):
        return None
    history = row_codec.read_updates(key, found)
    page = list(map(StoredUpdate, history.seqs, history.updates))
    return page[::-1] if newest_first else page


def next_seq(key: ContextKey) -> Plan[tuple[float | None, int]]:
    """Return the steps that read when a context was made, and which seq its next update will have.

    None and 1 if there is no such context.
    """
    head = yield Step(_context(), {"context": row_codec.context_id(key)}, reads=True)
    return (head[0][0], _State(*head[0][1:]).next_seq) if head else (None, 1)


def list_contexts(user_id: str, after: ContextSummary | None, limit: int) -> Plan[list[ContextSummary]]:
    """Return the steps that list a user's contexts, the newest first."""
    parameters: dict[str, Any] = {"user": user_id, "how_many": limit}
    goes_on = after is not None and after.created_at is not None
    if after is not None and goes_on:
        last = row_codec.context_id(ContextKey(after.user_id, after.chat_id))
        parameters |= {"last_made": after.created_at, "last": last}
    found = yield Step(_list(goes_on=goes_on), parameters, reads=True)
    return [ContextSummary(*row) for row in found or []]


def erase(key: ContextKey) -> Plan[bool]:
    """Return the steps that delete a context's rows from every table; the result tells if it was there."""
    context_id = {"context": row_codec.context_id(key)}
    # Its lock holds back a save that would add rows meanwhile. The context itself goes last: under row-level security
    # what is left of a context that is gone is nobody's, and would stay.
    found = yield Step(_lock_context(), context_id, reads=True)
    if found:
        allow(sum(found[0][1:]))
    for table in (updates, files, models, runs, revisions):
        yield Step(_delete(table), context_id)
    yield Step(_delete_context(), context_id)
    return bool(found and found[0][0] > 0)


@cache
def _context() -> Statement:
    return sa.select(
        contexts.c.created_at,
        contexts.c.revision,
        contexts.c.next_seq,
        contexts.c.next_model,
        contexts.c.next_position,
        contexts.c.metadata,
        contexts.c.metadata_toggles,
    ).where(contexts.c.context_id == text("context"), incomplete.is_there())


@cache
def _updates(engine: str) -> Statement:
    between = (updates.c.seq >= number("low"), updates.c.seq < number("high"))
    return sa.select(*update_columns(engine)).where(*in_revision(updates), *between).order_by(updates.c.seq)


@cache
def _files() -> Statement:
    columns = [files.c[name] for name in row_codec.FILE_COLUMNS]
    return sa.select(*columns).where(*in_revision(files)).order_by(files.c.position)


@cache
def _models() -> Statement:
    columns = [models.c[name] for name in row_codec.MODEL_COLUMNS]
    return sa.select(*columns).where(*in_revision(models)).order_by(models.c.seq)


@cache
def _list(*, goes_on: bool) -> Statement:
    statement = sa.select(
        contexts.c.user_id, contexts.c.chat_id, contexts.c.revision, contexts.c.created_at, contexts.c.updated_at
    ).where(contexts.c.user_id == text("user"), incomplete.is_there())
    if goes_on:
        last = sa.tuple_(sa.bindparam("last_made", type_=sa.Double), text("last"))
        statement = statement.where(sa.tuple_(contexts.c.created_at, contexts.c.context_id) < last)
    order = (contexts.c.created_at.desc(), contexts.c.context_id.desc())
    return statement.order_by(*order).limit(number("how_many"))


@cache
def _lock_context() -> Statement:
    sizes = (contexts.c.next_seq, contexts.c.next_model, contexts.c.next_position)
    return sa.select(contexts.c.revision, *sizes).where(contexts.c.context_id == text("context")).with_for_update()


@cache
def _delete_context() -> Statement:
    return sa.delete(contexts).where(contexts.c.context_id == text("context"))


@cache
def _delete(table: sa.Table) -> Statement:
    return sa.delete(table).where(table.c.context_id == text("context"))
