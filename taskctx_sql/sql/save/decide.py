"""What a save to SQLite does, statement by statement; on Postgres a function in the database does it.

First everything is read and decided, then everything is written. So saves of several contexts can share a transaction:
one that is refused has written nothing, and does not affect the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

import sqlalchemy as sa

from taskctx_sql.errors import LostContextError, StaleContextError, TaskContextError
from taskctx_sql.model import MappingChange, Saved
from taskctx_sql.sql import engines, history, incomplete, row_codec
from taskctx_sql.sql.context_row import ContextHead
from taskctx_sql.sql.load import as_of
from taskctx_sql.sql.plan import Plan, Statement, Step, number, read_value, text
from taskctx_sql.sql.save.batch import EMPTY, Batch
from taskctx_sql.sql.save.request import Removed, SaveRequest, removed_by
from taskctx_sql.sql.schema import contexts, models, revisions, runs, updates

_ENGINE: Final = "sqlite"


def save(request: SaveRequest) -> Plan[Saved]:
    """Return the plan of a save, for one transaction.

    Raises:
        LostContextError: The context was deleted since the base, or set back to an older state.
        StaleContextError: It was to be unchanged, and is not.
    """
    (answer,) = yield from save_group([request])
    if isinstance(answer, TaskContextError):
        raise answer
    return answer


def save_group(requests: Sequence[SaveRequest]) -> Plan[list[Saved | TaskContextError]]:
    """Return the plan of saves to different contexts, for one transaction, with their answers in order."""
    batch = Batch()
    answers: list[Saved | TaskContextError] = []
    heads = yield from _heads(requests)
    for request in requests:
        try:
            answers.append((yield from _decide(request, heads.get(request.context_id), batch)))
        except TaskContextError as error:
            answers.append(error)
    yield batch.writes()
    return answers


def save_all(requests: Sequence[SaveRequest]) -> Plan[list[Saved]]:
    """Return the plan of saves to different contexts, for one transaction that fails if one of them is refused."""
    saved: list[Saved] = []
    for answer in (yield from save_group(requests)):
        if isinstance(answer, TaskContextError):
            raise answer
        saved.append(answer)
    return saved


def _heads(requests: Sequence[SaveRequest]) -> Plan[dict[str, ContextHead]]:
    """Return the plan that reads the rows of the requests' contexts."""
    # The transaction has the write lock already.
    if len(requests) == 1:
        rows = yield Step(_select_head(), {"context": requests[0].context_id}, reads=True)
    else:
        ids = engines.list_value(_ENGINE, [request.context_id for request in requests])
        rows = yield Step(_select_heads(), {"contexts": ids}, reads=True)
    return {row[0]: ContextHead(*row[1:]) for row in rows or ()}


def _decide(request: SaveRequest, found: ContextHead | None, batch: Batch) -> Plan[Saved | TaskContextError]:
    """Add what a save writes to the batch, and return its answer, or the error why it is refused."""
    delta, base, context_id = request.delta, request.base, request.context_id
    head = found or ContextHead(delta.at)
    # To everybody else an incomplete context is not there.
    is_incomplete = found is not None and head.revision == 0 and head.created_at != delta.at
    if is_incomplete:
        head = ContextHead(delta.at)
    if base.created_at not in (None, head.created_at) or head.revision < base.newest:
        return LostContextError(delta.key)
    if head.revision != base.revision:
        # Somebody saved in between; it may have been a copy of this very save.
        saves = yield from read_value(_select_saves(), {"context": context_id, "run": delta.run.run_id})
        if saves not in (None, delta.run.saves - 1):
            return (yield from _answer_again(request, head))
        if request.if_unchanged:
            return StaleContextError(delta.key, base.revision, head.revision)
    if is_incomplete:
        yield from incomplete.replace(context_id, delta.at)
    if delta.operation in ("restore", "undo"):
        numbers = (head.revision + 1, head.next_seq, head.next_model)
        restored = yield from history.restore(_ENGINE, context_id, delta, *numbers)
        after = ContextHead(head.created_at, numbers[0], restored.next_seq, restored.next_model, head.next_position)
        batch.add_restore(request, after, restored)
        return request.saved(after)
    after = ContextHead(
        head.created_at,
        head.revision + request.step,
        head.next_seq + len(request.updates),
        head.next_model + len(request.models),
        head.next_position + request.unplaced_files,
    )
    saved = request.saved(after)
    metadata, toggles, removed = request.metadata, request.toggles, removed_by(delta)
    # One that has nothing in memory may remove what is not there.
    if not saved.complete or (delta.is_blind and any(removed)):
        metadata = yield from _merged(request, "metadata", delta.metadata)
        toggles = yield from _merged(request, "metadata_toggles", delta.toggles)
        current = yield from _current(request, removed)
        if current is None:
            return StaleContextError(delta.key, base.revision, head.revision, rewritten=True)
        removed = current
    if found is None:
        batch.insert_context(request, after, metadata, toggles)
    else:
        batch.change_context(request, after, metadata, toggles)
    batch.add(request, after, metadata, toggles, removed)
    return saved


def _current(request: SaveRequest, removed: Removed) -> Plan[Removed | None]:
    """Return the plan that finds under which seqs the rows to remove are there now.

    Others may have removed them meanwhile, or a restore may have written them anew. None if an edit did, or if what
    others removed would come back: the context has to be loaded first.
    """
    if not any(removed):
        return removed
    delta, context_id, seen, current = request.delta, request.context_id, request.base.revision, []
    again = {updates: set(delta.again_updates), models: set(delta.again_models)}
    copied = yield from history.restored_since(context_id, seen)
    for table, seqs in ((updates, removed.updates), (updates, removed.dropped), (models, removed.models)):
        seqs_now = yield from history.current_seqs(_ENGINE, table, context_id, seqs, copied=copied)
        gone = set(seqs).difference(seqs_now)
        if not delta.if_there:
            gone.clear()
        if gone & again[table] or (
            gone and (yield from history.may_be_rewritten(_ENGINE, table, context_id, gone, seen))
        ):
            return None
        current.append(list(seqs_now.values()))
    return Removed(*current)


def _answer_again(request: SaveRequest, head: ContextHead) -> Plan[Saved | TaskContextError]:
    """Return the plan that reads the answer to a save that was written before."""
    if not request.step:
        return request.saved(head)
    run = request.delta.run
    asked = {"context": request.context_id, "run": run.run_id, "number": run.saves, "seen": request.base.revision}
    rows = yield Step(_select_revision(), asked, reads=True)
    if not rows:
        # The run's counter has another value: the database was set back to an older state.
        return LostContextError(request.delta.key)
    return request.saved(ContextHead(head.created_at, *rows[0]))


def _merged(request: SaveRequest, name: str, change: MappingChange | None) -> Plan[str | None]:
    """Return the plan that applies a change to what is stored: somebody else may have set other keys."""
    if change is None:
        return None
    stored = yield from read_value(as_of.select_current(name), {"context": request.context_id})
    return row_codec.merged_text(request.delta.key, name, stored or EMPTY, change, strict=request.strict)


# The statements.


_HEAD: Final = tuple(contexts.c[name] for name in ContextHead._fields)


@cache
def _select_head() -> Statement:
    return sa.select(contexts.c.context_id, *_HEAD).where(contexts.c.context_id == text("context"))


@cache
def _select_heads() -> Statement:
    is_asked_for = engines.is_in_list(_ENGINE, contexts.c.context_id, "contexts")
    return sa.select(contexts.c.context_id, *_HEAD).where(is_asked_for)


@cache
def _select_saves() -> Statement:
    return sa.select(runs.c.saves).where(runs.c.context_id == text("context"), runs.c.run_id == text("run"))


@cache
def _select_revision() -> Statement:
    statement = sa.select(*(revisions.c[name] for name in ContextHead._fields[1:])).where(
        revisions.c.context_id == text("context"),
        revisions.c.revision > number("seen"),
        revisions.c.run_id == text("run"),
        revisions.c.save_number == number("number"),
    )
    # A save with an operation has two: the newest is its answer.
    return statement.order_by(revisions.c.revision.desc())
