"""A new context that starts from another one, statement by statement: its rows are copied within the database."""

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
    """Return the steps that make a context of another one's state, all for one transaction.

    Args:
        engine: Whose SQL.
        key: Where it starts from.
        new: The new one.
        revision: Which state; None is the newest.
        run: Who does it; a copy of it finds its own work.
        at: When it is made, seconds since the epoch, UTC.

    Raises:
        ContextNotFoundError: There is nothing to start from.
        RevisionNotFoundError: It has no such revision, or no longer all of it.
        ContextExistsError: The new one is there already.
    """
    source, context_id = row_codec.context_id(key), row_codec.context_id(new)
    found = yield Step(_select_revision(), {"context": source}, reads=True)
    if not found or found[0][0] < 1:
        raise ContextNotFoundError(key)
    newest = int(found[0][0])
    revision = newest if revision is None else revision
    place = yield from as_of.find(source, revision)
    if place is None:
        raise RevisionNotFoundError(key, revision, newest)
    allow(sum(place))
    texts = []
    for column in ("metadata", "metadata_toggles"):
        texts.append((yield from as_of.mapping_at(source, revision, column)))
    then = {"context": source, "revision": revision}
    following = []
    for table in (updates, models):
        counted = yield Step(_count(table), then, reads=True)
        following.append(1 + (counted[0][0] if counted else 0))
    numbers = (*following, place.next_position)
    values = (context_id, new.user_id, new.chat_id, *texts, 1, *numbers, at, at)
    row = dict(zip(columns(contexts, "pruned_until"), values, strict=True))
    made = yield Step(_insert_context(engine), row, reads=True)
    if not made and (yield from incomplete.clear(context_id)):
        made = yield Step(_insert_context(engine), row, reads=True)
    if not made:
        # A copy of this very fork may have made it.
        known = yield Step(_select_maker(), {"context": context_id}, reads=True)
        if not known or known[0][0] != run.run_id:
            raise ContextExistsError(new)
        return
    for table in (updates, models):
        yield Step(_copy(table), {**then, "target": context_id, "run": run.run_id})
    yield Step(_copy_files(), {**then, "target": context_id, "run": run.run_id})
    ended = (context_id, run.run_id, run.started_at, at, "completed", None, 1)
    yield Step(insertion(runs), dict(zip(columns(runs), ended, strict=True)))
    first = (context_id, 1, at, run.run_id, 1, *numbers, *texts, None, None, "fork", revision, key.chat_id)
    yield Step(insertion(revisions), dict(zip(columns(revisions), first, strict=True)))
    if not (yield from as_of.is_still_there(engine, source, found[0][1])):
        raise ContextNotFoundError(key)
    # Last: what was pruned while it was copied is missing in the copy.
    yield from as_of.check_whole(key, revision, newest)


@cache
def _select_revision() -> Statement:
    return sa.select(contexts.c.revision, contexts.c.created_at).where(contexts.c.context_id == text("context"))


@cache
def _select_maker() -> Statement:
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
    place = sa.func.row_number().over(partition_by=table.c.context_id, order_by=table.c.seq)
    # A copy from elsewhere is its own root here.
    return _copied(table, {"seq": place, "copy_of": place})


@cache
def _copy_files() -> Statement:
    return _copied(files, {"copy_of": sa.null()})


def _copied(table: sa.Table, new: dict[str, sa.ColumnElement[Any]]) -> Statement:
    first = sa.literal_column("1", sa.BigInteger)
    new = new | {"context_id": text("target"), "added_in": first, "removed_in": sa.null(), "run_id": text("run")}
    values = [new.get(column.name, column) for column in table.c]
    chosen = sa.select(*values).where(*in_revision(table))
    return sa.insert(table).from_select([column.name for column in table.c], chosen, include_defaults=False)
