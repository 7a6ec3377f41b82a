"""Reports on what was committed, computed in SQL, with the same results on every engine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Protocol, TypeVar, Unpack

import sqlalchemy as sa

from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.limits import check_number
from taskctx_sql.model import ContextKey, ContextSummary
from taskctx_sql.model.report_filters import Filters
from taskctx_sql.model.report_rows import (
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
from taskctx_sql.sql import engines, incomplete, row_codec
from taskctx_sql.sql.reports.clauses import columns_of, in_period, of_owner, page, typed, user_of
from taskctx_sql.sql.row_codec import AnyRow
from taskctx_sql.sql.schema import contexts, files, runs, updates, views

T = TypeVar("T")


class Query(Protocol):
    """Executes a SELECT, as `SqlStore.query` does."""

    async def __call__(self, statement: sa.Select[*tuple[Any, ...]], *, user_id: str | None) -> Sequence[AnyRow]:
        """Return the rows; under row-level security, those of the user."""


class Reports:
    """The reports of a store: `store.reports`.

    A report takes `Filters` as keyword arguments and returns one page of typed rows, in a defined order. Pass the last
    row as ``after`` to get the next page. The page "Views" of the docs describes the columns.
    """

    def __init__(self, query: Query) -> None:
        self._query = query

    async def contexts(
        self, *, after: ContextSummary | None = None, **filters: Unpack[Filters]
    ) -> list[ContextSummary]:
        """Return the contexts that were worked on in the period, the newest first, without their contents."""
        statement = sa.select(*columns_of(ContextSummary, contexts))
        return typed(ContextSummary, await self._newest_contexts(statement, after, filters))

    async def count_contexts(self, **filters: Unpack[Filters]) -> int:
        """Return how many contexts were worked on in the period; ``limit`` has no effect."""
        conditions = (*_worked_on(contexts, filters), incomplete.is_there())
        statement = sa.select(sa.func.count()).select_from(contexts).where(*conditions)
        return int((await self._query(statement, user_id=user_of(filters)))[0][0])

    async def tasks(self, *, after: Task | None = None, **filters: Unpack[Filters]) -> list[Task]:
        """Return the contexts that were worked on in the period with their totals, the newest first."""
        # The page's contexts are selected first, so that only theirs are summed up.
        selected = await self._newest_contexts(sa.select(contexts.c.context_id), after, filters)
        context_ids = [row[0] for row in selected]
        statement = sa.select(*columns_of(Task, views.tasks)).where(views.tasks.c.context_id.in_(context_ids))
        rows = typed(Task, await self._query(statement, user_id=user_of(filters)))
        by_id = {task.context_id: task for task in rows}
        return [by_id[context_id] for context_id in context_ids if context_id in by_id]

    async def runs(self, *, after: TaskRun | None = None, **filters: Unpack[Filters]) -> list[TaskRun]:
        """Return the runs that began in the period, the newest first."""
        return await self._of_view(TaskRun, views.runs, after, filters, "-started_at", "context_id", "run_id")

    async def models(self, *, after: ModelUsage | None = None, **filters: Unpack[Filters]) -> list[ModelUsage]:
        """Return the usage of each model on each day that the period touches, the newest day first."""
        view = views.models
        keys = (view.c.day, view.c.model_id, view.c.provider_id, view.c.mode)
        counts = map(_whole_sum, (view.c.calls, view.c.input_tokens, view.c.output_tokens))
        statement = _by_day(view, keys, (*counts, sa.func.sum(view.c.cost), sa.func.sum(view.c.duration)), filters)
        order = ("-day", "model_id", "provider_id", "mode")
        rows = typed(ModelUsage, await self._page(statement, view, after, filters, *order))
        # The engines add up floats in different orders.
        return [replace(use, cost=round(use.cost, 9), duration=round(use.duration, 9)) for use in rows]

    async def files(self, *, after: FileActivity | None = None, **filters: Unpack[Filters]) -> list[FileActivity]:
        """Return the files whose last operation was in the period, the newest first."""
        return await self._of_view(FileActivity, views.files, after, filters, "-timestamp", "context_id", "path_id")

    async def activity(self, *, after: Activity | None = None, **filters: Unpack[Filters]) -> list[Activity]:
        """Return the number of updates by type and day, for each day that the period touches, the newest day first."""
        view = views.activity
        sums = map(_whole_sum, (view.c.updates, view.c.removed, view.c.bytes))
        statement = _by_day(view, (view.c.day, view.c.update_type), tuple(sums), filters)
        return typed(Activity, await self._page(statement, view, after, filters, "-day", "update_type"))

    async def errors(self, *, after: ErrorReport | None = None, **filters: Unpack[Filters]) -> list[ErrorReport]:
        """Return the errors of the period, the newest first."""
        order = ("-timestamp", "context_id", "run_id", "-seq")
        return await self._of_view(ErrorReport, views.errors, after, filters, *order)

    async def largest(self, *, after: ContextSize | None = None, **filters: Unpack[Filters]) -> list[ContextSize]:
        """Return the contexts that were worked on in the period, the largest first."""
        return await self._sizes("-bytes", after, filters)

    async def busiest(self, *, after: ContextSize | None = None, **filters: Unpack[Filters]) -> list[ContextSize]:
        """Return the contexts that were worked on in the period, those with the most updates first."""
        return await self._sizes("-updates", after, filters)

    async def users(self, *, after: UserSize | None = None, **filters: Unpack[Filters]) -> list[UserSize]:
        """Return the users whose last save was in the period, those with the most data first.

        ``chat_id`` has no effect.
        """
        return await self._of_view(UserSize, views.users, after, filters, "-bytes", "user_id", time="updated_at")

    async def search(
        self,
        text: str,
        *,
        update_type: str | None = None,
        case_sensitive: bool = False,
        after: SearchHit | None = None,
        **filters: Unpack[Filters],
    ) -> list[SearchHit]:
        """Return the updates of the period that have a text in their data, the newest first.

        The search covers strings, keys and numbers as they stand in JSON, removed updates included. It reads all
        updates of the context, the user or the period.

        Args:
            text: The text to search for.
            update_type: Search only updates of this type.
            case_sensitive: Whether the case of ASCII letters matters; that of other letters always does.
            after: The last row of the previous page.
            **filters: Which updates to search.
        """
        for name, value in (("text", text), ("update_type", "" if update_type is None else update_type)):
            if not isinstance(value, str):
                raise InvalidArgumentError(name, value, "a string")
        # As it stands in JSON text, where for instance quotes are escaped.
        needle = json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "replace").decode()
        removed = updates.c.removed_in.is_not(None)
        columns = {**updates.c, **contexts.c, "removed": removed, "context_id": updates.c.context_id}
        statement = (
            sa.select(*(columns[name] for name in SearchHit.__dataclass_fields__))
            .select_from(sa.join(updates, contexts, updates.c.context_id == contexts.c.context_id))
            .where(engines.contains(updates.c.data, needle, case_sensitive=case_sensitive))
            .where(*of_owner(contexts, filters), *in_period(updates, filters, "timestamp", "timestamp"))
            .where(incomplete.is_there())
        )
        if update_type is not None:
            statement = statement.where(updates.c.update_type == row_codec.column_text(update_type))
        order = ("-timestamp", "context_id", "-seq")
        return typed(SearchHit, await self._page(statement, updates, after, filters, *order))

    async def timeline(self, key: ContextKey, *, limit: int = 20) -> list[TimelineEntry]:
        """Return the newest updates of a context, removed ones included, the oldest first."""
        check_number("limit", limit, 0)
        removed = updates.c.removed_in.is_not(None)
        statement = (
            sa.select(updates.c.seq, updates.c.timestamp, updates.c.update_type, updates.c.data, removed)
            .where(*_of(updates, key))
            .order_by(updates.c.seq.desc())
            .limit(limit)
        )
        return typed(TimelineEntry, await self._query(statement, user_id=key.user_id))[::-1]

    async def updates_by_type(self, key: ContextKey) -> list[Count]:
        """Return the number of a context's updates by type, removed ones included, the most frequent type first."""
        return await self._counts(key, updates.c.update_type, *_of(updates, key))

    async def files_by_operation(self, key: ContextKey) -> list[Count]:
        """Return the number of a context's tracked files by last operation, the most frequent operation first."""
        operation = sa.func.coalesce(files.c.operation, "")
        return await self._counts(key, operation, *_of(files, key), files.c.removed_in.is_(None))

    async def context_runs(self, key: ContextKey, *, limit: int = 10) -> list[RunReport]:
        """Return the newest runs of a context and how many updates each wrote, the oldest first."""
        check_number("limit", limit, 0)
        conditions = _of(runs, key)
        written = (
            sa.select(updates.c.run_id, sa.func.count().label("updates"))
            .where(updates.c.context_id == row_codec.context_id(key))
            .group_by(updates.c.run_id)
            .subquery()
        )
        names = ("run_id", "started_at", "ended_at", "outcome", "error", "saves")
        statement = (
            sa.select(*(runs.c[name] for name in names), sa.func.coalesce(written.c.updates, 0))
            .select_from(runs.outerjoin(written, runs.c.run_id == written.c.run_id))
            .where(*conditions)
            .order_by(runs.c.started_at.desc(), runs.c.run_id)
            .limit(limit)
        )
        return typed(RunReport, await self._query(statement, user_id=key.user_id))[::-1]

    async def _page(
        self, statement: sa.Select[Any], view: sa.FromClause, after: Any, filters: Filters, *order: str
    ) -> Sequence[AnyRow]:
        return await self._query(page(statement, view, after, filters, order), user_id=user_of(filters))

    async def _of_view(
        self, kind: type[T], view: sa.Table, after: T | None, filters: Filters, *order: str, time: str = ""
    ) -> list[T]:
        """Return a page of a view's rows whose time, by default the first column of the order, is in the period."""
        time = time or order[0].lstrip("-")
        conditions = (*of_owner(view, filters), *in_period(view, filters, time, time))
        statement = sa.select(*columns_of(kind, view)).where(*conditions)
        return typed(kind, await self._page(statement, view, after, filters, *order))

    async def _sizes(self, by: str, after: ContextSize | None, filters: Filters) -> list[ContextSize]:
        view = views.sizes
        statement = sa.select(*columns_of(ContextSize, view)).where(*_worked_on(view, filters))
        return typed(ContextSize, await self._page(statement, view, after, filters, by, "context_id"))

    async def _newest_contexts(
        self, statement: sa.Select[Any], after: ContextSummary | Task | None, filters: Filters
    ) -> Sequence[AnyRow]:
        seen = None
        if after is not None:
            if not isinstance(after, ContextSummary | Task):
                raise InvalidArgumentError("after", after, "the last row of the previous page")
            context_id = row_codec.context_id(ContextKey(after.user_id, after.chat_id))
            seen = SimpleNamespace(created_at=after.created_at, context_id=context_id)
        statement = statement.where(*_worked_on(contexts, filters), incomplete.is_there())
        return await self._page(statement, contexts, seen, filters, "-created_at", "-context_id")

    async def _counts(
        self, key: ContextKey, name: sa.ColumnElement[str], *conditions: sa.ColumnElement[bool]
    ) -> list[Count]:
        number = sa.func.count()
        statement = sa.select(name, number).where(*conditions).group_by(name).order_by(number.desc(), name)
        return typed(Count, await self._query(statement, user_id=key.user_id))


def _worked_on(view: sa.FromClause, filters: Filters) -> list[sa.ColumnElement[bool]]:
    """Return the conditions for contexts created before the period's end and last saved after its beginning."""
    return [*of_owner(view, filters), *in_period(view, filters, "created_at", "updated_at")]


def _by_day(
    view: sa.Table, keys: Sequence[sa.ColumnElement[Any]], sums: Sequence[sa.ColumnElement[Any]], filters: Filters
) -> sa.Select[Any]:
    conditions = (*of_owner(view, filters), *in_period(view, filters, None, None))
    return sa.select(*keys, *sums).where(*conditions).group_by(*keys)


def _of(table: sa.Table, key: ContextKey) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions for a context's rows; an incomplete context has none."""
    if not isinstance(key, ContextKey):
        raise InvalidArgumentError("key", key, "a ContextKey")
    context_id = row_codec.context_id(key)
    whole = sa.exists().where(contexts.c.context_id == context_id, incomplete.is_there())
    return table.c.context_id == context_id, whole


def _whole_sum(column: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    # Postgres would return a Decimal.
    return sa.cast(sa.func.sum(column), sa.BigInteger)
