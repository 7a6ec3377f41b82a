"""Forking: a new context that starts from a revision of another one, copied within the database."""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy as sa

from taskctx_sql.errors import ContextExistsError, ContextNotFoundError, RevisionNotFoundError
from taskctx_sql.model import ContextKey, Run
from taskctx_sql.sql import engines, incomplete, row_codec
from taskctx_sql.sql.load import as_of, in_revision
from taskctx_sql.sql.plan import Plan, Statement, Step, columns, insertion, parameters, text
from taskctx_sql.sql.retry import allow
from taskctx_sql.sql.schema import contexts, files, models, revisions, runs, updates


def fork(engine: str, key: ContextKey, new: ContextKey, revision: int | None, run: Run, at: float) -> Plan[None]:
    """Return the plan of a fork, for one transaction.

    Args:
        engine: The dialect's name.
        key: The context to start from.
        new: The new context.
        revision: The revision to start from; None for the newest.
        run: The run of the fork, by which a retry recognizes that the fork was committed.
        at: The time of the fork, in seconds since the epoch, UTC.

    Raises:
        ContextNotFoundError: The context to start from does not exist.
        RevisionNotFoundError: The revision does not exist, or was pruned.
        ContextExistsError: The new context exists already.
    """
    source, context_id = row_codec.context_id(key), row_codec.context_id(new)
    rows = yield Step(_select_revision(), {"context": source}, reads=True)
    if not rows or rows[0][0] < 1:
        raise ContextNotFoundError(key)
    newest, created_at = int(rows[0][0]), rows[0][1]
    revision = newest if revision is None else revision
    counters = yield from as_of.counters(source, revision)
    if counters is None:
        raise RevisionNotFoundError(key, revision, newest)
    allow(sum(counters))
    texts = []
    for column in ("metadata", "metadata_toggles"):
        texts.append((yield from as_of.mapping_at(source, revision, column)))
    then = {"context": source, "revision": revision}
    next_numbers = []
    for table in (updates, models):
        counted = yield Step(_count(table), then, reads=True)
        next_numbers.append(1 + (counted[0][0] if counted else 0))
    next_numbers.append(counters.next_position)
    values = (context_id, new.user_id, new.chat_id, *texts, 1, *next_numbers, at, at)
    row = dict(zip(columns(contexts, "pruned_until"), values, strict=True))
    inserted = yield Step(_insert_context(engine), row, reads=True)
    if not inserted and (yield from incomplete.clear(context_id)):
        inserted = yield Step(_insert_context(engine), row, reads=True)
    if not inserted:
        # An earlier attempt of this fork may have created it.
        creator = yield Step(_select_creator(), {"context": context_id}, reads=True)
        if not creator or creator[0][0] != run.run_id:
            raise ContextExistsError(new)
        return
    for table in (updates, models):
        yield Step(_copy(table), {**then, "target": context_id, "run": run.run_id})
    yield Step(_copy_files(), {**then, "target": context_id, "run": run.run_id})
    ended = (context_id, run.run_id, run.started_at, at, "completed", None, 1)
    yield Step(insertion(runs), dict(zip(columns(runs), ended, strict=True)))
    first = (context_id, 1, at, run.run_id, 1, *next_numbers, *texts, None, None, "fork", revision, key.chat_id)
    yield Step(insertion(revisions), dict(zip(columns(revisions), first, strict=True)))
    if not (yield from as_of.is_still_there(engine, source, created_at)):
        raise ContextNotFoundError(key)
    # At the end, because rows that were pruned during the copying are missing in the copy.
    yield from as_of.check_not_pruned(key, revision, newest)


@cache
def _select_revision() -> Statement:
    return sa.select(contexts.c.revision, contexts.c.created_at).where(contexts.c.context_id == text("context"))


@cache
def _select_creator() -> Statement:
    first = revisions.c.revision == 1
    return sa.select(revisions.c.run_id).where(revisions.c.context_id == text("context"), first)


@cache
def _count(table: sa.Table) -> Statement:
    return sa.select(sa.func.count()).select_from(table).where(*in_revision(table))


@cache
def _insert_context(engine: str) -> Statement:
    statement = engines.insert(engine, contexts).values(parameters(contexts, "pruned_until"))
    return statement.on_conflict_do_nothing().returning(contexts.c.context_id)


@cache
def _copy(table: sa.Table) -> Statement:
    position = sa.func.row_number().over(partition_by=table.c.context_id, order_by=table.c.seq)
    # A copy from another context is its own root.
    return _copied(table, {"seq": position, "copy_of": position})


@cache
def _copy_files() -> Statement:
    return _copied(files, {"copy_of": sa.null()})


def _copied(table: sa.Table, new: dict[str, sa.ColumnElement[Any]]) -> Statement:
    first = sa.literal_column("1", sa.BigInteger)
    new = new | {"context_id": text("target"), "added_in": first, "removed_in": sa.null(), "run_id": text("run")}
    values = [new.get(column.name, column) for column in table.c]
    chosen = sa.select(*values).where(*in_revision(table))
    return sa.insert(table).from_select([column.name for column in table.c], chosen, include_defaults=False)
