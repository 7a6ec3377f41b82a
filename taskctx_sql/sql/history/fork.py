"""Forking: a new context that starts from a revision of another one, copied within the database."""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy as sa

from taskctx_sql.errors import ContextExistsError, ContextNotFoundError
from taskctx_sql.model import ContextKey, Run
from taskctx_sql.sql import engines, incomplete, row_codec
from taskctx_sql.sql.history.copies import insert_copies
from taskctx_sql.sql.load import as_of, in_revision
from taskctx_sql.sql.plan import Plan, Statement, Step, columns, insertion, parameters, read_value, text
from taskctx_sql.sql.retry import allow
from taskctx_sql.sql.schema import contexts, files, models, revisions, runs, state, updates


def fork(engine: str, key: ContextKey, new: ContextKey, revision: int | None, run: Run, at: float) -> Plan[None]:
    """Return the plan of a fork from a revision, or from the newest one, for one transaction.

    A retry recognizes by the run that the fork was committed.
    """
    source, context_id = row_codec.context_id(key), row_codec.context_id(new)
    newest, created_at = yield from as_of.current(key, "revision", "created_at")
    revision = newest if revision is None else revision
    counters = yield from as_of.counters(key, revision, newest)
    allow(sum(counters))
    texts = []
    for column in ("metadata", "metadata_toggles"):
        texts.append((yield from as_of.mapping_at(source, revision, column)))
    then = {"context": source, "revision": revision}
    next_numbers = []
    for table in (updates, models):
        next_numbers.append(1 + (yield from read_value(_count(table), then)))
    next_numbers.append(counters.next_position)
    allow((yield from read_value(_count(state), then)))
    values = (context_id, new.user_id, new.chat_id, *texts, 1, *next_numbers, at, at)
    row = dict(zip(columns(contexts, "pruned_until"), values, strict=True))
    inserted = yield Step(_insert_context(engine), row, reads=True)
    if not inserted and (yield from incomplete.clear(context_id)):
        inserted = yield Step(_insert_context(engine), row, reads=True)
    if not inserted:
        # An earlier attempt of this fork may have created it.
        if run.run_id != (yield from read_value(_select_creator(), {"context": context_id})):
            raise ContextExistsError(new)
        return
    for table in (updates, models, files, state):
        yield Step(_copy(table), {**then, "target": context_id, "run": run.run_id})
    ended = (context_id, run.run_id, run.started_at, at, "completed", None, 1)
    yield Step(insertion(runs), dict(zip(columns(runs), ended, strict=True)))
    first = (context_id, 1, at, run.run_id, 1, *next_numbers, *texts, None, None, None, "fork", revision, key.chat_id)
    yield Step(insertion(revisions), dict(zip(columns(revisions), first, strict=True)))
    if not (yield from as_of.is_still_there(engine, source, created_at)):
        raise ContextNotFoundError(key)
    # At the end, because rows that were pruned during the copying are missing in the copy.
    yield from as_of.check_not_pruned(key, revision, newest)


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
    first = sa.literal_column("1", sa.BigInteger)
    new: dict[str, Any] = {"context_id": text("target"), "added_in": first, "removed_in": sa.null()}
    new |= {"run_id": text("run"), "copy_of": sa.null()}
    if "seq" in table.c:
        # A copy from another context is its own root.
        new["seq"] = sa.func.row_number().over(partition_by=table.c.context_id, order_by=table.c.seq)
        new["copy_of"] = new["seq"]
    return insert_copies(table, table, new, *in_revision(table))
