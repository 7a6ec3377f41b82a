"""Questions about what was committed, answered by SQL, the same on every engine.

Each report takes `Filters` by name, returns its rows typed, in an order that a row's own values tell, and a page at a
time: ``after`` takes the last row of the page before. docs/reporting.md explains the columns.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar, Unpack

import sqlalchemy as sa

from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.limits import check_number
from taskctx_sql.model import ContextKey, ContextSummary
from taskctx_sql.sql import engines, incomplete, row_codec
from taskctx_sql.sql.reports.filters import PAGE, Filters, Order, columns_of, page, typed, user_of, when, whose
from taskctx_sql.sql.reports.rows import (
    Activity,
    ContextSize,
    Count,
    ErrorReport,
    FileActivity,
    ModelUsage,
    RunReport,
    SearchHit,
    Task,
    TaskRun,
    TimelineEntry,
    UserSize,
)
from taskctx_sql.sql.row_codec import AnyRow
from taskctx_sql.sql.schema import contexts as contexts_table
from taskctx_sql.sql.schema import files as files_table
from taskctx_sql.sql.schema import runs as runs_table
from taskctx_sql.sql.schema import updates, views
from taskctx_sql.sql.store import SqlStore

T = TypeVar("T")


async def contexts(
    store: SqlStore, *, after: ContextSummary | None = None, **filters: Unpack[Filters]
) -> list[ContextSummary]:
    """Return the contexts that were worked on in the period, the newest first, without looking into them."""
    statement = sa.select(*columns_of(ContextSummary, contexts_table))
    return typed(ContextSummary, await _newest_contexts(store, statement, after, filters))


async def count_contexts(store: SqlStore, **filters: Unpack[Filters]) -> int:
    """Return how many contexts were worked on in the period."""
    table = contexts_table
    conditions = (*whose(table, filters), *when(table, filters, "created_at", "updated_at"), incomplete.is_there())
    counted = await store.query(
        sa.select(sa.func.count()).select_from(table).where(*conditions), user_id=user_of(filters)
    )
    return int(counted[0][0])


async def tasks(store: SqlStore, *, after: Task | None = None, **filters: Unpack[Filters]) -> list[Task]:
    """Return the contexts that were worked on in the period, summed up as a whole, the newest first."""
    # Which ones first, so that no others are summed up.
    page_of = await _newest_contexts(store, sa.select(contexts_table.c.context_id), after, filters)
    idents = [row[0] for row in page_of]
    statement = sa.select(*columns_of(Task, views.tasks)).where(views.tasks.c.context_id.in_(idents))
    found = {task.context_id: task for task in typed(Task, await store.query(statement, user_id=user_of(filters)))}
    return [found[context_id] for context_id in idents if context_id in found]


async def runs(store: SqlStore, *, after: TaskRun | None = None, **filters: Unpack[Filters]) -> list[TaskRun]:
    """Return the runs that began in the period, the newest first."""
    order = _order(views.runs, "-started_at", "context_id", "run_id")
    return await _rows(store, TaskRun, views.runs, order, after, filters, "started_at")


async def models(store: SqlStore, *, after: ModelUsage | None = None, **filters: Unpack[Filters]) -> list[ModelUsage]:
    """Return what was used of each model on each day that the period touches, the newest day first."""
    view = views.models
    keys = (view.c.day, view.c.model_id, view.c.provider_id, view.c.mode)
    sums = (view.c.calls, view.c.input_tokens, view.c.output_tokens)
    statement = (
        sa.select(*keys, *map(_whole_sum, sums), sa.func.sum(view.c.cost), sa.func.sum(view.c.duration))
        .where(*whose(view, filters), *when(view, filters, None, None))
        .group_by(*keys)
    )
    order = _order(view, "-day", "model_id", "provider_id", "mode")
    found = await _page(store, statement, order, after, filters)
    # The engines do not add in the same order.
    return [replace(use, cost=round(use.cost, 9), duration=round(use.duration, 9)) for use in typed(ModelUsage, found)]


async def files(
    store: SqlStore, *, after: FileActivity | None = None, **filters: Unpack[Filters]
) -> list[FileActivity]:
    """Return the files whose last operation was in the period, the newest first."""
    order = _order(views.files, "-timestamp", "context_id", "path_id")
    return await _rows(store, FileActivity, views.files, order, after, filters, "timestamp")


async def activity(store: SqlStore, *, after: Activity | None = None, **filters: Unpack[Filters]) -> list[Activity]:
    """Return how many updates of each type were made on each day that the period touches, the newest day first."""
    view = views.activity
    keys = (view.c.day, view.c.update_type)
    statement = (
        sa.select(*keys, *map(_whole_sum, (view.c.updates, view.c.removed, view.c.bytes)))
        .where(*whose(view, filters), *when(view, filters, None, None))
        .group_by(*keys)
    )
    order = _order(view, "-day", "update_type")
    return typed(
        Activity,
        await _page(store, statement, order, after, filters),
    )


async def errors(store: SqlStore, *, after: ErrorReport | None = None, **filters: Unpack[Filters]) -> list[ErrorReport]:
    """Return the errors of the period, the newest first."""
    order = _order(views.errors, "-timestamp", "context_id", "run_id", "-seq")
    return await _rows(store, ErrorReport, views.errors, order, after, filters, "timestamp")


async def largest(
    store: SqlStore, *, after: ContextSize | None = None, **filters: Unpack[Filters]
) -> list[ContextSize]:
    """Return the contexts that were worked on in the period, the largest first."""
    return await _sizes(store, "-bytes", after, filters)


async def busiest(
    store: SqlStore, *, after: ContextSize | None = None, **filters: Unpack[Filters]
) -> list[ContextSize]:
    """Return the contexts that were worked on in the period, those with the most updates first."""
    return await _sizes(store, "-updates", after, filters)


async def users(store: SqlStore, *, after: UserSize | None = None, **filters: Unpack[Filters]) -> list[UserSize]:
    """Return the users whose last save was in the period, the one with the most data first; ``chat`` tells nothing."""
    order = _order(views.users, "-bytes", "user_id")
    return await _rows(store, UserSize, views.users, order, after, filters, "updated_at")


async def search(
    store: SqlStore,
    text: str,
    *,
    update_type: str | None = None,
    case_sensitive: bool = False,
    after: SearchHit | None = None,
    **filters: Unpack[Filters],
) -> list[SearchHit]:
    """Return the updates of the period with a text in their data, the newest first.

    The text is looked for in the strings, keys and numbers as JSON has them, in the whole record. All rows of the
    context, the user or the period are read.

    Args:
        store: Where.
        text: What.
        update_type: Only updates of this type.
        case_sensitive: Whether the case of ASCII letters counts; that of others always does.
        after: The last row of the page before.
        **filters: Which rows.
    """
    view = sa.join(updates, contexts_table, updates.c.context_id == contexts_table.c.context_id)
    for name, value in (("text", text), ("update_type", "" if update_type is None else update_type)):
        if not isinstance(value, str):
            raise InvalidArgumentError(name, value, "a string")
    # As it stands in JSON text, where a quote, say, is escaped.
    needle = json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "replace").decode()
    removed = updates.c.removed_in.is_not(None)
    columns = {**updates.c, **contexts_table.c, "removed": removed, "context_id": updates.c.context_id}
    statement = (
        sa.select(*(columns[name] for name in SearchHit.__dataclass_fields__))
        .select_from(view)
        .where(engines.contains(updates.c.data, needle, case_sensitive=case_sensitive))
        .where(*whose(contexts_table, filters), *when(updates, filters, "timestamp", "timestamp"))
        .where(incomplete.is_there())
    )
    if update_type is not None:
        statement = statement.where(updates.c.update_type == row_codec.column_text(update_type))
    order = _order(updates, "-timestamp", "context_id", "-seq")
    return typed(SearchHit, await _page(store, statement, order, after, filters))


async def timeline(store: SqlStore, key: ContextKey, *, limit: int = 20) -> list[TimelineEntry]:
    """Return the newest updates of the whole record, the removed ones included, oldest first."""
    check_number("limit", limit, 0)
    statement = (
        sa.select(
            updates.c.seq,
            updates.c.timestamp,
            updates.c.update_type,
            updates.c.data,
            updates.c.removed_in.is_not(None),
        )
        .where(*_of(updates, key))
        .order_by(updates.c.seq.desc())
        .limit(limit)
    )
    return [TimelineEntry(*_five(row)) for row in reversed(await store.query(statement, user_id=key.user_id))]


async def updates_by_type(store: SqlStore, key: ContextKey) -> list[Count]:
    """Return how many updates of each type the whole record has, the most frequent first."""
    number = sa.func.count()
    statement = (
        sa.select(updates.c.update_type, number)
        .where(*_of(updates, key))
        .group_by(updates.c.update_type)
        .order_by(number.desc(), updates.c.update_type)
    )
    return [_count(row) for row in await store.query(statement, user_id=key.user_id)]


async def files_by_operation(store: SqlStore, key: ContextKey) -> list[Count]:
    """Return how many tracked files had each operation as their last one, the most frequent first."""
    number = sa.func.count()
    operation = sa.func.coalesce(files_table.c.operation, "")
    statement = (
        sa.select(operation, number)
        .where(*_of(files_table, key), files_table.c.removed_in.is_(None))
        .group_by(operation)
        .order_by(number.desc(), operation)
    )
    return [_count(row) for row in await store.query(statement, user_id=key.user_id)]


async def context_runs(store: SqlStore, key: ContextKey, *, limit: int = 10) -> list[RunReport]:
    """Return the newest runs and how many updates each one wrote, oldest first."""
    check_number("limit", limit, 0)
    context_id = _ident(key)
    written = (
        sa.select(updates.c.run_id, sa.func.count().label("written"))
        .where(updates.c.context_id == context_id)
        .group_by(updates.c.run_id)
        .subquery()
    )
    statement = (
        sa.select(
            runs_table.c.run_id,
            runs_table.c.started_at,
            runs_table.c.ended_at,
            runs_table.c.outcome,
            runs_table.c.error,
            runs_table.c.saves,
            sa.func.coalesce(written.c.written, 0),
        )
        .select_from(runs_table.outerjoin(written, runs_table.c.run_id == written.c.run_id))
        .where(*_of(runs_table, key))
        .order_by(runs_table.c.started_at.desc(), runs_table.c.run_id)
        .limit(limit)
    )
    return [_run(row) for row in reversed(await store.query(statement, user_id=key.user_id))]


def _of(table: sa.Table, key: ContextKey) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions for a context's rows, if it is not half there."""
    context_id = _ident(key)
    whole = sa.exists().where(contexts_table.c.context_id == context_id, incomplete.is_there())
    return table.c.context_id == context_id, whole


def _ident(key: ContextKey) -> str:
    if not isinstance(key, ContextKey):
        raise InvalidArgumentError("key", key, "a ContextKey")
    return row_codec.context_id(key)


async def _page(
    store: SqlStore, statement: sa.Select[Any], order: list[Order], after: Any, filters: Filters
) -> Sequence[AnyRow]:
    """Return a page of a statement's rows. An account that sees one user at a time sees the one that is asked for."""
    return await store.query(page(statement, order, after, filters.get("limit", PAGE)), user_id=user_of(filters))


async def _rows(
    store: SqlStore, kind: type[T], view: sa.Table, order: list[Order], after: T | None, filters: Filters, time: str
) -> list[T]:
    """Return a page of a view's rows whose time, in that column, is in the period."""
    statement = sa.select(*columns_of(kind, view)).where(*whose(view, filters), *when(view, filters, time, time))
    return typed(kind, await _page(store, statement, order, after, filters))


async def _sizes(store: SqlStore, by: str, after: ContextSize | None, filters: Filters) -> list[ContextSize]:
    view = views.sizes
    statement = sa.select(*columns_of(ContextSize, view))
    statement = statement.where(*whose(view, filters), *when(view, filters, "created_at", "updated_at"))
    order = _order(view, by, "context_id")
    return typed(
        ContextSize,
        await _page(store, statement, order, after, filters),
    )


async def _newest_contexts(
    store: SqlStore, statement: sa.Select[Any], after: ContextSummary | Task | None, filters: Filters
) -> list[AnyRow]:
    """Return a page of the contexts that were made before the period's end and saved after its beginning."""
    table = contexts_table
    statement = statement.where(*whose(table, filters), *when(table, filters, "created_at", "updated_at"))
    statement = statement.where(incomplete.is_there())
    order = _order(table, "-created_at", "-context_id")
    seen = None
    if after is not None:
        if not isinstance(after, ContextSummary | Task):
            raise InvalidArgumentError("after", after, "the last row of the page before")
        seen = _Seen(after.created_at, row_codec.context_id(ContextKey(after.user_id, after.chat_id)))
    return list(await _page(store, statement, order, seen, filters))


class _Seen(NamedTuple):
    """The last context of a page."""

    created_at: float | None
    context_id: str


def _order(view: sa.FromClause, *names: str) -> list[Order]:
    """Return an order by columns; a minus stands for descending."""
    return [Order(view.c[name.lstrip("-")], name.lstrip("-"), name.startswith("-")) for name in names]


def _whole_sum(column: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    # Postgres would return a Decimal.
    return sa.cast(sa.func.sum(column), sa.BigInteger)


def _five(row: AnyRow) -> tuple[int, float | None, str, str, bool]:
    seq, timestamp, update_type, data, removed = row
    return seq, timestamp, update_type, data, bool(removed)


def _count(row: AnyRow) -> Count:
    name, count = row
    return Count(name, count)


def _run(row: AnyRow) -> RunReport:
    run_id, started_at, ended_at, outcome, error, saves, written = row
    return RunReport(run_id, started_at, ended_at, outcome, error, saves, written)
