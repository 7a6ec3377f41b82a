"""Reports on what was committed, computed in SQL, with the same results on every engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, TypeVar, Unpack

import sqlalchemy as sa

from taskctx_sql.model import TOKEN_PARTS, ContextSummary
from taskctx_sql.model.report_filters import Filters
from taskctx_sql.model.report_rows import (
    Activity,
    CallOutcome,
    ContextSize,
    ErrorReport,
    FileActivity,
    ModelUsage,
    Outcome,
    TaskRun,
    ToolCall,
    ToolUsage,
    UpdateRow,
    UserSize,
    column_fields,
)
from taskctx_sql.model.tree_rows import Tree
from taskctx_sql.sql import engines, incomplete
from taskctx_sql.sql.reports.calls import select_calls, select_tools, select_tools_summed
from taskctx_sql.sql.reports.clauses import columns_of, has_whole_days, in_period, of_owner
from taskctx_sql.sql.reports.costs import OfCosts, select_models, select_models_summed
from taskctx_sql.sql.reports.report import Alternative, Report, Source
from taskctx_sql.sql.reports.stored import (
    select_activity,
    select_activity_of_view,
    select_activity_summed,
    select_sizes,
    select_users,
    select_users_summed,
)
from taskctx_sql.sql.reports.task_selection import as_text, check_outcome, labeled
from taskctx_sql.sql.schema import contexts, updates, views

T = TypeVar("T")

# The columns of each report that can be added up.
_TOKENS: Final = ("calls", "input_tokens", "output_tokens")
_USAGE: Final = (*_TOKENS, *TOKEN_PARTS, "cost")
_FAILURES: Final = ("failed_runs", "unfinished_runs")
_TREE_SUMS: Final = ("tasks", "errors", "runs", *_FAILURES, "cancelled_runs", *_TOKENS, "cost")
_RUN_SUMS: Final = ("duration", "saves", *_USAGE)
_SIZE_SUMS: Final = ("bytes", "updates", "removed", "saves", "files", "runs", "state_entries")
_USER_SUMS: Final = ("contexts", "updates", "removed", "bytes", "runs", *_FAILURES, *_USAGE)


class Reports(OfCosts):
    """The reports of a store: `store.reports`.

    A report takes `Filters` as keyword arguments, and returns a `Report`: ``await`` it for a list of typed rows, or
    read it with ``async for``. It has every row, in a defined order, unless ``limit`` is given; pass the last row as
    ``after`` to continue. docs/reporting.md describes the columns.
    """

    def contexts(
        self,
        *,
        labels: Mapping[str, str] | None = None,
        title: str | None = None,
        after: ContextSummary | None = None,
        **filters: Unpack[Filters],
    ) -> Report[ContextSummary]:
        """Return the contexts that were worked on in the period, the newest first, without their contents.

        With ``labels`` only those that have all of them; with ``title`` only those with this text in their title.
        """

        def source() -> Source[ContextSummary]:
            view = views.contexts
            rows = sa.select(*columns_of(ContextSummary, view)).where(*_worked_on(view, filters))
            rows = rows.where(*labeled(view, labels, title))
            return Source(ContextSummary, rows, ("-created_at", "user_id", "chat_id"), after)

        return Report(self._query, ContextSummary, source, filters)

    def runs(
        self, *, outcome: Outcome | None = None, after: TaskRun | None = None, **filters: Unpack[Filters]
    ) -> Report[TaskRun]:
        """Return the runs that began in the period, the newest first; with ``outcome`` only those that have it."""
        order = ("-day", "-started_at", "context_id", "run_id")
        where = partial(_with, views.runs, outcome)
        return self._of_view(TaskRun, views.runs, after, filters, order, _RUN_SUMS, ("context_id", "run_id"), where)

    def models(self, *, after: ModelUsage | None = None, **filters: Unpack[Filters]) -> Report[ModelUsage]:
        """Return the usage of each model on each day that the period touches, the newest day first."""

        def source() -> Source[ModelUsage]:
            order = ("-day", "model_id", "provider_id", "mode")
            sums = (*_USAGE, "estimated_cost", "failures", "duration")
            summed = self._sums.summed(filters, partial(select_models_summed, self._sums, filters))
            return Source(ModelUsage, select_models(filters), order, after, sums, alternatives=summed)

        return Report(self._query, ModelUsage, source, filters)

    def files(
        self, *, path: str | None = None, after: FileActivity | None = None, **filters: Unpack[Filters]
    ) -> Report[FileActivity]:
        """Return the files whose last operation was in the period, the newest first.

        With ``path`` only those with this text in their path, whatever its case.
        """
        view, order, key = views.files, ("-day", "-timestamp", "context_id", "path_id"), ("context_id", "path_id")

        def where() -> Sequence[sa.ColumnElement[bool]]:
            return () if path is None else [engines.contains(view.c.path, as_text("path", path), case_sensitive=False)]

        return self._of_view(FileActivity, view, after, filters, order, (), key, where)

    def calls(
        self,
        *,
        outcome: CallOutcome | None = None,
        tool: str | None = None,
        after: ToolCall | None = None,
        **filters: Unpack[Filters],
    ) -> Report[ToolCall]:
        """Return the calls of tools that began in the period, the newest first, those that were removed included.

        With ``outcome`` only those that have it, open ones only as the history is now; with ``tool`` only that tool's.
        """

        def source() -> Source[ToolCall]:
            order = ("-day", "-started_at", "context_id", "-seq")
            rows = select_calls(filters, outcome, tool)
            return Source(ToolCall, rows, order, after, ("duration",), ("context_id", "seq"))

        return Report(self._query, ToolCall, source, filters)

    def tools(self, *, after: ToolUsage | None = None, **filters: Unpack[Filters]) -> Report[ToolUsage]:
        """Return the tools that were called in the period, the one with the most calls first."""

        def source() -> Source[ToolUsage]:
            sums = ("calls", "failures", "retries", "open")
            summed: list[Alternative] = []
            if has_whole_days(filters):
                summed = self._sums.summed(filters, partial(select_tools_summed, self._sums, filters))
            return Source(ToolUsage, select_tools(filters), ("-calls", "name"), after, sums, alternatives=summed)

        return Report(self._query, ToolUsage, source, filters)

    def activity(self, *, after: Activity | None = None, **filters: Unpack[Filters]) -> Report[Activity]:
        """Return the number of updates by type and day, for each day that the period touches, the newest day first."""

        def source() -> Source[Activity]:
            sums = ("updates", "removed", "bytes")
            alternatives = self._sums.summed(filters, partial(select_activity_summed, self._sums, filters))
            alternatives += self._stored.read(filters, lambda: {"rows": select_activity(filters)})
            rows = select_activity_of_view(filters)
            return Source(Activity, rows, ("-day", "update_type"), after, sums, alternatives=alternatives)

        return Report(self._query, Activity, source, filters)

    def updates(self, *, after: UpdateRow | None = None, **filters: Unpack[Filters]) -> Report[UpdateRow]:
        """Return the updates of the period with their contents, removed ones included, the newest first."""

        def source() -> Source[UpdateRow]:
            removed = sa.case((updates.c.removed_in.is_(None), 0), else_=1).label("removed")
            revision = updates.c.added_in.label("revision")
            columns = {**contexts.c, **updates.c, "removed": removed, "revision": revision}
            rows = (
                sa.select(*(columns[field.name] for field in column_fields(UpdateRow)))
                .select_from(sa.join(updates, contexts, updates.c.context_id == contexts.c.context_id))
                .where(*of_owner(contexts, filters), *in_period(updates, filters, "timestamp", "timestamp"))
                .where(incomplete.is_there())
            )
            return Source(UpdateRow, rows, ("-timestamp", "context_id", "-seq"), after)

        return Report(self._query, UpdateRow, source, filters)

    def errors(self, *, after: ErrorReport | None = None, **filters: Unpack[Filters]) -> Report[ErrorReport]:
        """Return the errors of the period, failed runs included, the newest first."""
        order = ("-day", "-timestamp", "context_id", "run_id", "-seq")
        return self._of_view(ErrorReport, views.errors, after, filters, order)

    def largest(self, *, after: ContextSize | None = None, **filters: Unpack[Filters]) -> Report[ContextSize]:
        """Return the contexts that were worked on in the period, the largest first."""
        return self._sizes("-bytes", after, filters)

    def busiest(self, *, after: ContextSize | None = None, **filters: Unpack[Filters]) -> Report[ContextSize]:
        """Return the contexts that were worked on in the period, those with the most updates first."""
        return self._sizes("-updates", after, filters)

    def trees(self, *, after: Tree | None = None, **filters: Unpack[Filters]) -> Report[Tree]:
        """Return the trees of tasks whose root was worked on in the period, the newest first.

        These are the tasks that others name as their parent and that have no parent themselves, and those whose parent
        is missing. Each has the sums of all that is below it.
        """

        def source() -> Source[Tree]:
            view = views.trees
            is_tree = sa.or_(view.c.children > 0, view.c.parent.is_not(None))
            rows = sa.select(*columns_of(Tree, view)).where(*_worked_on(view, filters), view.c.is_root == 1, is_tree)
            return Source(Tree, rows, ("-created_at", "-context_id"), after, _TREE_SUMS, ("context_id",))

        return Report(self._query, Tree, source, filters)

    def users(self, *, after: UserSize | None = None, **filters: Unpack[Filters]) -> Report[UserSize]:
        """Return the users whose last save was in the period, those with the most data first.

        ``chat_id`` has no effect.
        """

        def source() -> Source[UserSize]:
            alternatives = self._sums.summed(filters, partial(select_users_summed, self._sums, filters))
            alternatives += self._stored.read(filters, lambda: {"rows": select_users(filters)})
            view = views.users
            conditions = (*of_owner(view, filters), *in_period(view, filters, "updated_at", "updated_at"))
            rows = sa.select(*columns_of(UserSize, view)).where(*conditions)
            return Source(UserSize, rows, ("-bytes", "user_id"), after, _USER_SUMS, alternatives=alternatives)

        return Report(self._query, UserSize, source, filters)

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
    ) -> Report[T]:
        """Return a report of a view's rows whose time, that of the order, is in the period.

        An order begins with the day where there is one, which is indexed.
        """
        time = next(name.lstrip("-") for name in order if name != "-day")

        def source() -> Source[T]:
            conditions = (*of_owner(view, filters), *in_period(view, filters, time, time), *where())
            rows = sa.select(*columns_of(row_type, view)).where(*conditions)
            return Source(row_type, rows, order, after, sums, key)

        return Report(self._query, row_type, source, filters)

    def _sizes(self, by: str, after: ContextSize | None, filters: Filters) -> Report[ContextSize]:
        def source() -> Source[ContextSize]:
            rows = sa.select(*columns_of(ContextSize, views.sizes)).where(*_worked_on(views.sizes, filters))
            selected = select_sizes(filters)
            whole = sa.select(*columns_of(ContextSize, views.sizes))
            fields = {"key": ("context_id",), "selected": selected, "whole": whole}
            alternatives = [] if selected is None else self._stored.read(filters, lambda: fields)
            return Source(ContextSize, rows, (by, "context_id"), after, _SIZE_SUMS, alternatives=alternatives)

        return Report(self._query, ContextSize, source, filters)


def _worked_on(view: sa.FromClause, filters: Filters) -> list[sa.ColumnElement[bool]]:
    """Return the conditions for contexts created before the period's end and last saved after its beginning."""
    return [*of_owner(view, filters), *in_period(view, filters, "created_at", "updated_at")]


def _with(view: sa.FromClause, outcome: Outcome | None) -> list[sa.ColumnElement[bool]]:
    """Return the condition for an outcome."""
    check_outcome(outcome)
    return [] if outcome is None else [view.c.outcome == outcome]
