"""The reports about tasks: which there are, how many began, and how they are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Unpack

import sqlalchemy as sa

from taskctx_sql.model import TOKEN_PARTS
from taskctx_sql.model.report_filters import Filters
from taskctx_sql.model.report_rows import ActiveUser, Day, Outcome, Task
from taskctx_sql.sql.reports.clauses import columns_of
from taskctx_sql.sql.reports.one_context import OfOneContext
from taskctx_sql.sql.reports.report import Report, Source
from taskctx_sql.sql.reports.task_selection import (
    TaskFilters,
    select_active_users,
    select_days,
    select_tasks,
    select_titles,
)
from taskctx_sql.sql.schema import contexts, views

_COUNTED = ("saves", "updates", "removed", "errors", "runs", "files", "failed_runs", "unfinished_runs")
_USED = ("cancelled_runs", "calls", "input_tokens", "output_tokens", *TOKEN_PARTS, "cost")
_SUMS: Final = (*_COUNTED, *_USED)


class OfTasks(OfOneContext):
    """The part of `Reports` that is about tasks."""

    def tasks(
        self,
        *,
        outcome: Outcome | None = None,
        labels: Mapping[str, str] | None = None,
        title: str | None = None,
        model: str | None = None,
        tool: str | None = None,
        begun: bool = False,
        after: Task | None = None,
        **filters: Unpack[Filters],
    ) -> Report[Task]:
        """Return the contexts that were worked on in the period with their totals, the newest first.

        Args:
            outcome: Only those that have it.
            labels: Only those that have all of these labels.
            title: Only those with this text in their title.
            model: Only those that used this model, whenever that was.
            tool: Only those that called this tool, likewise.
            begun: Only those that began in the period.
            after: The last row of the previous page.
            **filters: Whose, and when.
        """

        def source() -> Source[Task]:
            wanted: TaskFilters = {"outcome": outcome, "labels": labels, "title": title}
            wanted |= {"model": model, "tool": tool, "begun": begun}
            view, selected = views.tasks, select_tasks(filters, wanted)
            found = selected.with_only_columns(contexts.c.context_id)
            whole = sa.select(*columns_of(Task, view))
            rows, order = whole.where(view.c.context_id.in_(found)), ("-created_at", "-context_id")
            filled = ("created_at", "updated_at", "context_id")
            return Source(Task, rows, order, after, _SUMS, ("context_id",), selected, whole, filled)

        return Report(self._query, Task, source, filters)

    def days(self, *, after: Day | None = None, **filters: Unpack[Filters]) -> Report[Day]:
        """Return how many tasks began on each day of the period, and how many errors there were, the newest day first.

        ``chat_id`` has no effect.
        """

        def source() -> Source[Day]:
            return Source(Day, select_days(filters), ("-day",), after, ("tasks", "errors", "failed_runs"))

        return Report(self._query, Day, source, filters)

    def active_users(self, *, after: ActiveUser | None = None, **filters: Unpack[Filters]) -> Report[ActiveUser]:
        """Return the users whose last save was in the period, the last one first.

        `Reports.users` adds up what they have and what it cost, which takes much longer. ``chat_id`` has no effect.
        """

        def source() -> Source[ActiveUser]:
            whose: Filters = {name: value for name, value in filters.items() if name != "chat_id"}  # type: ignore[assignment]
            sums = ("contexts", "updates", "failed_runs")
            return Source(ActiveUser, select_active_users(whose), ("-updated_at", "user_id"), after, sums)

        return Report(self._query, ActiveUser, source, filters)

    async def titles(self, context_ids: Sequence[str], *, user_id: str | None = None) -> dict[str, str]:
        """Return the titles of the tasks that have one, by the ids that rows have as ``context_id``."""
        return {row[0]: row[1] for row in await self._query(select_titles(context_ids), user_id=user_id)}
