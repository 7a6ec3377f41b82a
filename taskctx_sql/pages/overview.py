"""The overview: what a period cost, what failed in it, and what runs now."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final, TypeVar

from taskctx_sql.model import ContextKey, report_rows
from taskctx_sql.model.cost_rows import Cost
from taskctx_sql.model.report_filters import Filters, Moment, seconds
from taskctx_sql.pages import charts, scales
from taskctx_sql.pages.links import Links
from taskctx_sql.pages.parts import Parts
from taskctx_sql.pages.selection import Selection, days_between
from taskctx_sql.sql.reports import Report
from taskctx_sql.sql.row_codec import context_id
from taskctx_sql.stores import Store

T = TypeVar("T")

# The rows of each ranking and list.
ROWS: Final = 8
# More days than this are not drawn: of everything, the last ones.
MAX_DAYS: Final = 366


@dataclass(frozen=True, slots=True)
class Overview:
    """What the overview shows. A part that is None is still being read.

    Attributes:
        selection: The period, and whose.
        at: When it was read.
        models: Cost, calls and tokens of each model on each day.
        days: How many tasks began, and how many errors there were, on each day.
        tools: The tools that were called.
        tasks: How many tasks were worked on.
        failed_tasks: How many of them failed.
        dearest: The tasks that cost most in the period.
        failing: The newest tasks that failed.
        running: The newest runs that have not ended.
        running_count: How many have not.
        titles: The titles of the tasks in the lists, by context id.
    """

    selection: Selection
    at: datetime
    models: Sequence[report_rows.ModelUsage] | None
    days: Sequence[report_rows.Day] | None
    tools: Sequence[report_rows.ToolUsage] | None
    tasks: int | None
    failed_tasks: int | None
    dearest: Sequence[Cost] | None
    failing: Sequence[report_rows.Task] | None
    running: Sequence[report_rows.TaskRun] | None
    running_count: int | None
    titles: dict[str, str]

    @property
    def is_pending(self) -> bool:
        """Whether a part is still being read."""
        return any(getattr(self, name) is None for name in self.__slots__)

    @property
    def cost(self) -> float | None:
        """What the period cost."""
        return None if self.models is None else sum(use.cost for use in self.models)

    @property
    def tokens(self) -> int | None:
        """The tokens of the period, read and written."""
        return None if self.models is None else sum(use.input_tokens + use.output_tokens for use in self.models)

    @property
    def calls(self) -> int | None:
        """How often a model was called."""
        return None if self.models is None else sum(use.calls for use in self.models)

    @property
    def errors(self) -> int | None:
        """How many errors there were, failed runs included."""
        return None if self.days is None else sum(day.errors for day in self.days)

    def charts(self, links: Links) -> list[charts.Chart]:
        """Return the charts by day that can be drawn; each bar leads to what it counts."""
        shown = self._shown_days()
        found = []
        if self.models is not None:
            costs: dict[date, float] = defaultdict(float)
            tokens: dict[date, float] = defaultdict(float)
            for use in self.models:
                if use.day is not None:
                    costs[use.day] += use.cost
                    tokens[use.day] += use.input_tokens + use.output_tokens

            def cost_of(day: date) -> str | None:
                return links.list("costs", self.selection.on(day).but(by="task"))

            def tokens_of(day: date) -> str | None:
                return links.list("costs", self.selection.on(day).but(by="task", sort="input_tokens"))

            found.append(charts.by_day("Cost", costs, shown, scales.cost, cost_of))
            found.append(charts.by_day("Tokens", tokens, shown, scales.compact, tokens_of))
        if self.days is not None:
            begun = {row.day: float(row.tasks) for row in self.days if row.day is not None}
            errors = {row.day: float(row.errors) for row in self.days if row.day is not None}

            def tasks_of(day: date) -> str | None:
                return links.list("tasks", self.selection.on(day).but(begun=True))

            def errors_of(day: date) -> str | None:
                return links.list("errors", self.selection.on(day))

            found.append(charts.by_day("Tasks that began", begun, shown, scales.number, tasks_of))
            found.append(charts.by_day("Errors", errors, shown, scales.number, errors_of, "failed"))
        return found

    def title(self, row: Cost | report_rows.Task | report_rows.TaskRun) -> str:
        """Return the title of the task that a row is about, or its chat."""
        return self.titles.get(context_id(ContextKey(row.user_id or "", row.chat_id or ""))) or row.chat_id or ""

    def ranking(self) -> list[tuple[str, float, int, float]]:
        """Return the models by cost: name, cost, calls, and the cost in percent of the first one's."""
        costs: dict[str, float] = defaultdict(float)
        calls: dict[str, int] = defaultdict(int)
        for use in self.models or ():
            costs[use.model_id] += use.cost
            calls[use.model_id] += use.calls
        ordered = sorted(costs, key=lambda name: (-costs[name], -calls[name], name))
        most = max(costs.values(), default=0) or 1
        return [(name, costs[name], calls[name], 100 * costs[name] / most) for name in ordered[:ROWS]]

    def _shown_days(self) -> list[date]:
        """Return the days that charts show: those of the period, or of everything those that have something."""
        since, until = self.selection.bounds(self.at)
        found = {use.day for use in self.models or ()} | {row.day for row in self.days or ()}
        with_something = [day for day in found if day is not None]
        last = _day(until) if until is not None else max([self.at.date(), *with_something])
        first = _day(since) if since is not None else min([last, *with_something])
        return list(days_between(max(first, date.fromordinal(max(last.toordinal() - MAX_DAYS + 1, 1))), last))


async def collect_overview(store: Store, selection: Selection, at: datetime, parts: Parts) -> Overview:
    """Return the overview of a period.

    Raises:
        UnsupportedByStoreError: The store is not a database.
    """
    reports = store.reports
    filters = selection.filters(at)
    top: Filters = {**filters, "limit": ROWS}
    ever: Filters = {"user_id": selection.user, "limit": ROWS}
    running = reports.runs(outcome="unfinished", **ever)

    async def part(name: str, read: Callable[[], Awaitable[T]]) -> T | None:
        return await parts.get(("overview", name, selection.in_period()), read)

    def rows(report: Report[T]) -> Callable[[], Awaitable[list[T]]]:
        async def read() -> list[T]:
            return await report

        return read

    (models, days, tools, tasks, failed), (costly, failing, run, runs) = await asyncio.gather(
        asyncio.gather(
            part("models", rows(reports.models(**filters))),
            part("days", rows(reports.days(**filters))),
            part("tools", rows(reports.tools(**top))),
            part("tasks", reports.tasks(**filters).count),
            part("failed tasks", reports.tasks(outcome="failed", **filters).count),
        ),
        asyncio.gather(
            part("dearest", rows(reports.costs("task", **top))),
            part("failing", rows(reports.tasks(outcome="failed", **top))),
            part("running", rows(running)),
            part("running count", running.count),
        ),
    )
    ids = {row.context_id for row in (*(failing or ()), *(run or ()))} | {
        context_id(ContextKey(row.user_id or "", row.chat_id or "")) for row in costly or ()
    }
    titles = await reports.titles(sorted(ids), user_id=selection.user) if ids else {}
    return Overview(selection, at, models, days, tools, tasks, failed, costly, failing, run, runs, titles)


def _day(moment: Moment) -> date:
    if isinstance(moment, date) and not isinstance(moment, datetime):
        return moment
    return datetime.fromtimestamp(seconds(moment), UTC).date()
