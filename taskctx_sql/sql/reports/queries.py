"""Reports on what was committed, computed in SQL, with the same results on every engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeVar, Unpack

import sqlalchemy as sa

from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.limits import check_number
from taskctx_sql.model import ContextKey, ContextSummary
from taskctx_sql.model.report_filters import Filters
from taskctx_sql.model.report_rows import (
    OUTCOMES,
    Activity,
    ContextSize,
    Count,
    ErrorReport,
    FileActivity,
    ModelUsage,
    Outcome,
    RunReport,
    SearchHit,
    Task,
    TaskRun,
    TimelineEntry,
    UserSize,
)
from taskctx_sql.sql import engines, incomplete, row_codec
from taskctx_sql.sql.reports.clauses import columns_of, in_period, of_owner, typed
from taskctx_sql.sql.reports.report import Query, Report, Source, total
from taskctx_sql.sql.schema import contexts, files, runs, updates, views

T = TypeVar("T")

# The columns of each report that can be added up.
_USAGE: Final = ("calls", "input_tokens", "output_tokens", "cost")
_FAILURES: Final = ("failed_runs", "unfinished_runs")
_TASK_SUMS: Final = ("saves", "updates", "removed", "errors", "runs", "files", *_FAILURES, "cancelled_runs", *_USAGE)
_RUN_SUMS: Final = ("duration", "saves", *_USAGE)
_SIZE_SUMS: Final = ("bytes", "updates", "removed", "saves", "files", "runs")
_USER_SUMS: Final = ("contexts", "updates", "removed", "bytes", "runs", *_FAILURES, *_USAGE)


class Reports:
    """The reports of a store: `store.reports`.

    A report takes `Filters` as keyword arguments, and returns a `Report`: ``await`` it for a list of typed rows, or
    read it with ``async for``. It has every row, in a defined order, unless ``limit`` is given; pass the last row as
    ``after`` to continue. docs/reporting.md describes the columns.
    """

    def __init__(self, query: Query) -> None:
        self._query = query

    def contexts(self, *, after: ContextSummary | None = None, **filters: Unpack[Filters]) -> Report[ContextSummary]:
        """Return the contexts that were worked on in the period, the newest first, without their contents."""

        def source() -> Source[ContextSummary]:
            view = views.contexts
            rows = sa.select(*columns_of(ContextSummary, view)).where(*_worked_on(view, filters))
            return Source(ContextSummary, rows, ("-created_at", "user_id", "chat_id"), after)

        return Report(self._query, ContextSummary, source, filters)

    def tasks(
        self, *, outcome: Outcome | None = None, after: Task | None = None, **filters: Unpack[Filters]
    ) -> Report[Task]:
        """Return the contexts that were worked on in the period with their totals, the newest first.

        With ``outcome`` only those that have it.
        """

        def source() -> Source[Task]:
            view = views.tasks
            rows = sa.select(*columns_of(Task, view)).where(*_worked_on(view, filters), *_with(view, outcome))
            # The page's contexts are selected first, so that only theirs are summed up.
            newest = views.contexts
            selected = sa.select(newest.c.context_id, newest.c.created_at).where(*_worked_on(newest, filters))
            order = ("-created_at", "-context_id")
            return Source(Task, rows, order, after, _TASK_SUMS, ("context_id",), selected if outcome is None else None)

        return Report(self._query, Task, source, filters)

    def runs(
        self, *, outcome: Outcome | None = None, after: TaskRun | None = None, **filters: Unpack[Filters]
    ) -> Report[TaskRun]:
        """Return the runs that began in the period, the newest first; with ``outcome`` only those that have it."""
        order = ("-started_at", "context_id", "run_id")
        where = partial(_with, views.runs, outcome)
        return self._of_view(TaskRun, views.runs, after, filters, order, _RUN_SUMS, ("context_id", "run_id"), where)

    def models(self, *, after: ModelUsage | None = None, **filters: Unpack[Filters]) -> Report[ModelUsage]:
        """Return the usage of each model on each day that the period touches, the newest day first."""
        view, keys = views.models, ("day", "model_id", "provider_id", "mode")
        return self._by_day(ModelUsage, view, after, filters, keys, (*_USAGE, "duration"))

    def files(self, *, after: FileActivity | None = None, **filters: Unpack[Filters]) -> Report[FileActivity]:
        """Return the files whose last operation was in the period, the newest first."""
        order = ("-timestamp", "context_id", "path_id")
        return self._of_view(FileActivity, views.files, after, filters, order, (), ("context_id", "path_id"))

    def activity(self, *, after: Activity | None = None, **filters: Unpack[Filters]) -> Report[Activity]:
        """Return the number of updates by type and day, for each day that the period touches, the newest day first."""
        sums = ("updates", "removed", "bytes")
        return self._by_day(Activity, views.activity, after, filters, ("day", "update_type"), sums)

    def errors(self, *, after: ErrorReport | None = None, **filters: Unpack[Filters]) -> Report[ErrorReport]:
        """Return the errors of the period, failed runs included, the newest first."""
        order = ("-timestamp", "context_id", "run_id", "-seq")
        return self._of_view(ErrorReport, views.errors, after, filters, order)

    def largest(self, *, after: ContextSize | None = None, **filters: Unpack[Filters]) -> Report[ContextSize]:
        """Return the contexts that were worked on in the period, the largest first."""
        return self._sizes("-bytes", after, filters)

    def busiest(self, *, after: ContextSize | None = None, **filters: Unpack[Filters]) -> Report[ContextSize]:
        """Return the contexts that were worked on in the period, those with the most updates first."""
        return self._sizes("-updates", after, filters)

    def users(self, *, after: UserSize | None = None, **filters: Unpack[Filters]) -> Report[UserSize]:
        """Return the users whose last save was in the period, those with the most data first.

        ``chat_id`` has no effect.
        """
        order = ("-bytes", "user_id")
        return self._of_view(UserSize, views.users, after, filters, order, _USER_SUMS, time="updated_at")

    def search(
        self,
        text: str,
        *,
        update_type: str | None = None,
        case_sensitive: bool = False,
        after: SearchHit | None = None,
        **filters: Unpack[Filters],
    ) -> Report[SearchHit]:
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

        def source() -> Source[SearchHit]:
            for name, value in (("text", text), ("update_type", "" if update_type is None else update_type)):
                if not isinstance(value, str):
                    raise InvalidArgumentError(name, value, "a string")
            # As it stands in JSON text, where for instance quotes are escaped.
            needle = json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "replace").decode()
            removed = sa.case((updates.c.removed_in.is_(None), 0), else_=1).label("removed")
            columns = {**updates.c, **contexts.c, "removed": removed, "context_id": updates.c.context_id}
            rows = (
                sa.select(*(columns[name] for name in SearchHit.__dataclass_fields__))
                .select_from(sa.join(updates, contexts, updates.c.context_id == contexts.c.context_id))
                .where(engines.contains(updates.c.data, needle, case_sensitive=case_sensitive))
                .where(*of_owner(contexts, filters), *in_period(updates, filters, "timestamp", "timestamp"))
                .where(incomplete.is_there())
            )
            if update_type is not None:
                rows = rows.where(updates.c.update_type == row_codec.column_text(update_type))
            return Source(SearchHit, rows, ("-timestamp", "context_id", "-seq"), after)

        return Report(self._query, SearchHit, source, filters)

    async def timeline(self, key: ContextKey, *, limit: int | None = None) -> list[TimelineEntry]:
        """Return the updates of a context, or the newest ``limit``, removed ones included, the oldest first."""
        check_number("limit", limit, 0, optional=True)
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

    async def context_runs(self, key: ContextKey, *, limit: int | None = None) -> list[RunReport]:
        """Return the runs of a context, or the newest ``limit``, and how many updates each wrote, the oldest first."""
        check_number("limit", limit, 0, optional=True)
        conditions = _of(runs, key)
        written = (
            sa.select(updates.c.run_id, sa.func.count().label("updates"))
            .where(updates.c.context_id == row_codec.context_id(key))
            .group_by(updates.c.run_id)
            .subquery()
        )
        shown = (runs.c.run_id, runs.c.started_at, runs.c.ended_at, sa.func.coalesce(runs.c.outcome, "unfinished"))
        statement = (
            sa.select(*shown, runs.c.error, runs.c.saves, sa.func.coalesce(written.c.updates, 0))
            .select_from(runs.outerjoin(written, runs.c.run_id == written.c.run_id))
            .where(*conditions)
            .order_by(runs.c.started_at.desc(), runs.c.run_id)
            .limit(limit)
        )
        return typed(RunReport, await self._query(statement, user_id=key.user_id))[::-1]

    def _of_view(
        self,
        row_type: type[T],
        view: sa.Table,
        after: T | None,
        filters: Filters,
        order: Sequence[str],
        sums: Sequence[str] = (),
        key: Sequence[str] = (),
        where: Callable[[], Sequence[sa.ColumnElement[bool]]] = tuple,
        *,
        time: str = "",
    ) -> Report[T]:
        """Return a report of a view's rows whose time, by default the first of the order, is in the period."""
        time = time or order[0].lstrip("-")

        def source() -> Source[T]:
            conditions = (*of_owner(view, filters), *in_period(view, filters, time, time), *where())
            rows = sa.select(*columns_of(row_type, view)).where(*conditions)
            return Source(row_type, rows, order, after, sums, key)

        return Report(self._query, row_type, source, filters)

    def _by_day(
        self,
        row_type: type[T],
        view: sa.Table,
        after: T | None,
        filters: Filters,
        keys: Sequence[str],
        sums: Sequence[str],
    ) -> Report[T]:
        """Return a report of a view's sums by day and other columns."""

        def source() -> Source[T]:
            grouped = [view.c[name] for name in keys]
            conditions = (*of_owner(view, filters), *in_period(view, filters, None, None))
            rows = sa.select(*grouped, *(total(view.c[name]).label(name) for name in sums)).where(*conditions)
            return Source(row_type, rows.group_by(*grouped), ("-day", *keys[1:]), after, sums)

        return Report(self._query, row_type, source, filters)

    def _sizes(self, by: str, after: ContextSize | None, filters: Filters) -> Report[ContextSize]:
        def source() -> Source[ContextSize]:
            rows = sa.select(*columns_of(ContextSize, views.sizes)).where(*_worked_on(views.sizes, filters))
            return Source(ContextSize, rows, (by, "context_id"), after, _SIZE_SUMS)

        return Report(self._query, ContextSize, source, filters)

    async def _counts(
        self, key: ContextKey, name: sa.ColumnElement[str], *conditions: sa.ColumnElement[bool]
    ) -> list[Count]:
        number = sa.func.count()
        statement = sa.select(name, number).where(*conditions).group_by(name).order_by(number.desc(), name)
        return typed(Count, await self._query(statement, user_id=key.user_id))


def _worked_on(view: sa.FromClause, filters: Filters) -> list[sa.ColumnElement[bool]]:
    """Return the conditions for contexts created before the period's end and last saved after its beginning."""
    return [*of_owner(view, filters), *in_period(view, filters, "created_at", "updated_at")]


def _with(view: sa.FromClause, outcome: Outcome | None) -> list[sa.ColumnElement[bool]]:
    """Return the condition for an outcome."""
    if outcome is not None and outcome not in OUTCOMES:
        raise InvalidArgumentError("outcome", outcome, f"one of {', '.join(OUTCOMES)}")
    return [] if outcome is None else [view.c.outcome == outcome]


def _of(table: sa.Table, key: ContextKey) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions for a context's rows; an incomplete context has none."""
    if not isinstance(key, ContextKey):
        raise InvalidArgumentError("key", key, "a ContextKey")
    context_id = row_codec.context_id(key)
    whole = sa.exists().where(contexts.c.context_id == context_id, incomplete.is_there())
    return table.c.context_id == context_id, whole
