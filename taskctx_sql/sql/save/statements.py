"""What a save does, statement by statement.

First everything is read and decided, and then everything is written. So saves of several contexts can share a
transaction: one that is refused has written nothing, and leaves its neighbors alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.errors import LostContextError, StaleContextError, TaskContextError
from taskctx_sql.model import MappingChange, Saved
from taskctx_sql.sql import engines, incomplete, row_codec
from taskctx_sql.sql.context_row import ContextHead
from taskctx_sql.sql.history import restore
from taskctx_sql.sql.plan import Plan, Statement, Step, columns, number, parameters, text
from taskctx_sql.sql.save.batch import EMPTY, Batch
from taskctx_sql.sql.save.request import Removed, SaveRequest, removed_by
from taskctx_sql.sql.schema import contexts, models, revisions, runs, updates


def save(engine: str, request: SaveRequest) -> Plan[Saved]:
    """Return the steps of a save, all for one transaction.

    Args:
        engine: Whose SQL; SQLAlchemy's name of it.
        request: What to save.

    Raises:
        LostContextError: The context was deleted since the base, or set back to an older state.
        StaleContextError: It was to be unchanged, and is not.
    """
    (answer,) = yield from save_group(engine, [request])
    if isinstance(answer, TaskContextError):
        raise answer
    return answer


def save_group(engine: str, requests: Sequence[SaveRequest]) -> Plan[list[Saved | TaskContextError]]:
    """Return the steps of saves to different contexts, all for one transaction, and their answers in order.

    On Postgres several would wait for each other's locks: there `postgres_writer` knows how.
    """
    batch = Batch(engine)
    answers: list[Saved | TaskContextError] = []
    for request in requests:
        try:
            answers.append((yield from _decide(engine, request, batch)))
        except TaskContextError as error:
            answers.append(error)
    yield from batch.plan()
    return answers


def _decide(engine: str, request: SaveRequest, batch: Batch) -> Plan[Saved | TaskContextError]:
    """Add what a save writes to the batch, and return its answer; or say why it is refused."""
    delta, base = request.delta, request.base
    if engine == "sqlite":
        # The transaction has the write lock already.
        found = yield Step(_select_head(), {"context": request.encoded.context_id}, reads=True)
    else:
        found = yield Step(_lock_head(), _new_context(request), reads=True)
    head = ContextHead(*found[0]) if found else ContextHead(delta.at)
    # Half there is not there. On Postgres the row may also be the one that was made just now.
    is_half = bool(found) and head.revision == 0 and head.created_at != delta.at
    if is_half:
        head = ContextHead(delta.at)
    if base.created_at not in (None, head.created_at) or head.revision < base.newest:
        return LostContextError(delta.key)
    if head.revision != base.revision:
        # Somebody saved in between; it may have been a copy of this very save.
        saves = yield Step(
            _select_saves(), {"context": request.encoded.context_id, "run": delta.run.run_id}, reads=True
        )
        if saves and saves[0][0] != delta.run.saves - 1:
            return (yield from _answer_again(request, head))
        if delta.if_unchanged:
            return StaleContextError(delta.key, base.revision, head.revision)
    if is_half:
        yield from incomplete.take_place(request.encoded.context_id, delta.at)
    if delta.operation in ("restore", "undo"):
        numbers = (head.revision + 1, head.next_seq, head.next_model)
        restored = yield from restore.restore(engine, request.encoded.context_id, delta, *numbers)
        moved = ContextHead(head.created_at, numbers[0], restored.next_seq, restored.next_model, head.next_position)
        batch.add_restore(request, moved, restored)
        return request.saved(moved)
    moved = ContextHead(
        head.created_at,
        head.revision + request.step,
        head.next_seq + len(request.encoded.updates),
        head.next_model + len(request.encoded.models),
        head.next_position + request.encoded.unplaced_files,
    )
    saved = request.saved(moved)
    metadata, toggles, removed = request.encoded.metadata, request.encoded.toggles, removed_by(delta)
    if not saved.complete:
        metadata = yield from _merged(request, "metadata", delta.metadata)
        toggles = yield from _merged(request, "metadata_toggles", delta.toggles)
        there = yield from _still_there(engine, request, removed)
        if there is None:
            return StaleContextError(delta.key, base.revision, head.revision, rewritten=True)
        removed = there
    batch.add(request, moved, metadata, toggles, removed, is_new=not found)
    return saved


def _still_there(engine: str, request: SaveRequest, removed: Removed) -> Plan[Removed | None]:
    """Return the steps that find what is there of the rows that leave.

    Others may have removed them meanwhile, or a restore may have written them anew. None if an edit did, or if what
    others removed would come back: the context has to look first.
    """
    if not any(removed):
        return removed
    delta, context_id, seen, there = request.delta, request.encoded.context_id, request.base.revision, []
    again = {updates: set(delta.again_updates), models: set(delta.again_models)}
    copied = yield from restore.restored_since(context_id, seen)
    for table, seqs in ((updates, removed.updates), (updates, removed.dropped), (models, removed.models)):
        found = yield from restore.rows_now(engine, table, context_id, seqs, copied=copied)
        gone = set(seqs).difference(found)
        if not delta.if_there:
            gone.clear()
        if gone & again[table] or (
            gone and (yield from restore.were_written_anew(engine, table, context_id, gone, seen))
        ):
            return None
        there.append(list(found.values()))
    return Removed(*there)


def _answer_again(request: SaveRequest, head: ContextHead) -> Plan[Saved | TaskContextError]:
    """Return the steps that find what a save was given when it was written."""
    if not request.step:
        return request.saved(head)
    run = request.delta.run
    known = {
        "context": request.encoded.context_id,
        "run": run.run_id,
        "number": run.saves,
        "seen": request.base.revision,
    }
    found = yield Step(_select_revision(), known, reads=True)
    if not found:
        # The run's counter stands elsewhere: the database was set back to an older state.
        return LostContextError(request.delta.key)
    return request.saved(ContextHead(head.created_at, *found[0]))


def _merged(request: SaveRequest, name: str, change: MappingChange | None) -> Plan[str | None]:
    """Return the steps that apply a change to what is stored: somebody else may have set other keys."""
    if change is None:
        return None
    stored = yield Step(_select_mapping(name), {"context": request.encoded.context_id}, reads=True)
    before = stored[0][0] if stored else EMPTY
    return row_codec.merged_text(request.delta.key, name, before, change, strict=request.strict)


# The statements.


def _new_context(request: SaveRequest) -> dict[str, Any]:
    head = ContextHead(request.delta.at)
    place = (head.revision, head.next_seq, head.next_model, head.next_position)
    values = (request.encoded.context_id, request.delta.key.user_id, request.delta.key.chat_id, EMPTY, EMPTY, *place)
    return dict(zip(columns(contexts, "pruned_until"), (*values, request.delta.at, request.delta.at), strict=True))


_HEAD: Final = (
    contexts.c.created_at,
    contexts.c.revision,
    contexts.c.next_seq,
    contexts.c.next_model,
    contexts.c.next_position,
)


@cache
def _select_head() -> Statement:
    return sa.select(*_HEAD).where(contexts.c.context_id == text("context"))


@cache
def _lock_head() -> Statement:
    # An insert, or an update of nothing where the row is there: two first writers come one after the other, too.
    statement = engines.insert("postgresql", contexts).values(parameters(contexts, "pruned_until"))
    return statement.on_conflict_do_update(
        index_elements=[contexts.c.context_id], set_={"updated_at": contexts.c.updated_at}
    ).returning(*_HEAD)


@cache
def _select_mapping(name: str) -> Statement:
    return sa.select(contexts.c[name]).where(contexts.c.context_id == text("context"))


@cache
def _select_saves() -> Statement:
    return sa.select(runs.c.saves).where(runs.c.context_id == text("context"), runs.c.run_id == text("run"))


@cache
def _select_revision() -> Statement:
    place = (revisions.c.revision, revisions.c.next_seq, revisions.c.next_model, revisions.c.next_position)
    statement = sa.select(*place).where(
        revisions.c.context_id == text("context"),
        revisions.c.revision > number("seen"),
        revisions.c.run_id == text("run"),
        revisions.c.save_number == number("number"),
    )
    # A save with an operation made two.
    return statement.order_by(revisions.c.revision.desc())
