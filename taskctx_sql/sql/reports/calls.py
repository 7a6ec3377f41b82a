"""The reports about calls of tools."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.model.report_filters import Filters
from taskctx_sql.model.report_rows import CALL_OUTCOMES, CallOutcome, ToolCall
from taskctx_sql.sql.reports.clauses import columns_of, in_period, of_owner, of_those_in_period
from taskctx_sql.sql.reports.percentiles import select_percentiles
from taskctx_sql.sql.reports.summed import DailySums
from taskctx_sql.sql.schema import updates, views

_VIEW: Final = views.calls
_IS_CALL: Final = updates.c.update_type == sa.literal_column("'tool_call'")


def select_calls(filters: Filters, outcome: CallOutcome | None, tool: str | None) -> sa.Select[Any]:
    """Return the SELECT of the calls that began in the period; those that are open as they are in the history now."""
    if outcome is not None and outcome not in CALL_OUTCOMES:
        raise InvalidArgumentError("outcome", outcome, f"one of {', '.join(CALL_OUTCOMES)}")
    rows = sa.select(*columns_of(ToolCall, _VIEW)).where(*_in(filters))
    # A restore writes calls again. The copy of an open call is the one that is in the history.
    rows = rows.where(_VIEW.c.removed == 0 if outcome == "open" else _VIEW.c.copied == 0)
    if outcome is not None:
        rows = rows.where(_VIEW.c.outcome == outcome)
    return rows if tool is None else rows.where(_VIEW.c.name == tool)


def select_tools(filters: Filters) -> sa.Select[Any]:
    """Return the SELECT of the sums of each tool's calls."""
    of_run = (_VIEW.c.context_id, _VIEW.c.run_id, _VIEW.c.name, _VIEW.c.arguments)
    before = sa.func.lag(_VIEW.c.outcome).over(partition_by=of_run, order_by=_VIEW.c.seq).label("outcome_before")
    columns = (_VIEW.c.name, _VIEW.c.outcome, _VIEW.c.duration, _VIEW.c.day, _VIEW.c.started_at, before)
    calls = sa.select(*columns).where(*of_owner(_VIEW, filters), _VIEW.c.copied == 0)
    calls = calls.where(*of_those_in_period(_VIEW, updates, filters, _IS_CALL))
    found = calls.subquery("calls")
    counted = sa.select(*found.c).where(*in_period(found, filters, "started_at", "started_at")).cte("counted")
    tool = counted.c.name
    quick = select_percentiles(counted, ("name",), 50, 95)

    def number(column: sa.ColumnElement[str], outcome: CallOutcome) -> sa.ColumnElement[int]:
        return sa.func.count(sa.case((column == outcome, 1)))

    rows = sa.select(
        tool,
        sa.func.count().label("calls"),
        number(counted.c.outcome, "failed").label("failures"),
        number(counted.c.outcome_before, "failed").label("retries"),
        number(counted.c.outcome, "open").label("open"),
        *(sa.func.max(quick.c[name], type_=sa.Double).label(name) for name in ("p50", "p95")),
    )
    return rows.select_from(counted.outerjoin(quick, quick.c.name == tool)).group_by(tool)


def _in(filters: Filters) -> list[sa.ColumnElement[bool]]:
    return [*of_owner(_VIEW, filters), *in_period(_VIEW, filters, "started_at", "started_at")]


def select_tools_summed(sums: DailySums, filters: Filters) -> sa.Select[Any]:
    """Return the same from the daily sums."""
    keys = ("model_id",)
    rows = sums.by("tool", keys, filters).subquery("sums")
    quick = select_percentiles(sums.times("tool", keys, filters), keys, 50, 95)
    counts = (rows.c[name] for name in ("calls", "failures", "retries", "open"))
    columns = (rows.c.model_id.label("name"), *counts, quick.c.p50, quick.c.p95)
    return sa.select(*columns).select_from(rows.outerjoin(quick, quick.c.model_id == rows.c.model_id))
