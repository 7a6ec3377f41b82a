"""The reports that add up over many tasks: what they cost, which models fail and how long they take, what runs now."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final, Unpack

import sqlalchemy as sa

from taskctx_sql import clock
from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.limits import check_real
from taskctx_sql.model import TOKEN_KINDS
from taskctx_sql.model.cost_rows import COST_BY, Cost, CostBy, ModelSpeed, OpenRun
from taskctx_sql.model.report_filters import Filters
from taskctx_sql.sql.reports.clauses import has_whole_days, in_period, of_owner, of_those_in_period, rounded, user_of
from taskctx_sql.sql.reports.grouped_costs import (
    NO_DAY,
    NO_TEXT,
    NULL_TEXT,
    SUMS,
    Uses,
    named,
    select_by,
    select_dearest,
)
from taskctx_sql.sql.reports.percentiles import select_percentiles
from taskctx_sql.sql.reports.report import Alternative, Report, Source
from taskctx_sql.sql.reports.summed import DailySums, rounded_amounts
from taskctx_sql.sql.reports.tasks import OfTasks
from taskctx_sql.sql.schema import models, revisions, views
from taskctx_sql.sql.schema.usage_parts import AMOUNTS, MODEL, WHOLE, usage_sums

# A run that goes on is expected to save within so many seconds.
SILENCE: Final = 600.0

_USES: Final = views.uses


class OfCosts(OfTasks):
    """The part of `Reports` that adds up over many tasks."""

    def costs(
        self, by: CostBy, *, label: str | None = None, after: Cost | None = None, **filters: Unpack[Filters]
    ) -> Report[Cost]:
        """Return what uses of models in the period cost, added up; the newest day or the highest cost first.

        Args:
            by: What they are added up by: "day", "model", "user", "label", "task", or "tree", the root of the tree
                that a task is in.
            label: The name of the label, by "label".
            after: The last row of the previous page.
            **filters: Whose uses, and when.
        """
        if by not in COST_BY:
            raise InvalidArgumentError("by", by, f"one of {', '.join(COST_BY)}")
        if (label is None) == (by == "label"):
            raise InvalidArgumentError("label", label, "the name of a label, if and only if costs are by label")

        def source() -> Source[Cost]:
            order = ("-day",) if by == "day" else ("-cost", "name", "user_id", "chat_id")
            rows, summed = _select_costs(by, label, filters), list[Alternative]()
            top = partial(select_dearest, by, _of_uses(filters), user_of(filters)) if by in ("task", "tree") else None
            if has_whole_days(filters):
                from_sums = partial(_select_summed, self._sums, by, label, filters)
                dearest = partial(select_dearest, by, _of_sums(self._sums, filters), user_of(filters)) if top else None
                summed = self._sums.summed(filters, from_sums, dearest)
            return Source(Cost, rows, order, after, SUMS, top=top, alternatives=summed)

        return Report(self._query, Cost, source, filters)

    def speed(self, *, after: ModelSpeed | None = None, **filters: Unpack[Filters]) -> Report[ModelSpeed]:
        """Return how often each model failed and how long it took in the period, the one with the most uses first."""

        def source() -> Source[ModelSpeed]:
            order = ("-calls", "model_id", "provider_id")
            sums, summed = ("calls", "failures", "retries"), list[Alternative]()
            if has_whole_days(filters):
                summed = self._sums.summed(filters, partial(_select_speed_summed, self._sums, filters))
            return Source(ModelSpeed, _select_speed(filters), order, after, sums, alternatives=summed)

        return Report(self._query, ModelSpeed, source, filters)

    def running(
        self, *, silence: float = SILENCE, after: OpenRun | None = None, **filters: Unpack[Filters]
    ) -> Report[OpenRun]:
        """Return the runs that began in the period and have no end, those heard of last first.

        Args:
            silence: From so many seconds without a save on, a run counts as broken off.
            after: The last row of the previous page.
            **filters: Whose, and when.
        """
        check_real("silence", silence, "a number of seconds")

        def source() -> Source[OpenRun]:
            return Source(OpenRun, _select_open(silence, filters), ("-heard_at", "context_id", "run_id"), after)

        return Report(self._query, OpenRun, source, filters)


def _select_costs(by: CostBy, label: str | None, filters: Filters) -> sa.Select[Any]:
    """Return the SELECT of the costs, with the columns of `Cost`."""
    if by in ("day", "model"):
        uses, none = _uses(filters, "timestamp"), (NULL_TEXT, NULL_TEXT)
        key: sa.ColumnElement[Any] = uses.c.day if by == "day" else uses.c.model_id
        # The day, the name, the user and the chat of a row.
        shown = (key, NO_TEXT, *none) if by == "day" else (NO_DAY, key, *none)
        tasks = sa.func.count(uses.c.context_id.distinct()).label("tasks")
        return sa.select(*named(shown), tasks, *_sums(uses)).group_by(key)
    return select_by(by, label, _of_uses(filters), user_of(filters))


def _of_uses(filters: Filters) -> Uses:
    """Return what contexts used, from the rows."""

    def of(among: sa.Select[Any] | None) -> list[sa.FromClause]:
        uses, one = _uses(filters, "timestamp", among), sa.literal_column("1", sa.BigInteger).label("tasks")
        each = sa.select(uses.c.context_id, one, *usage_sums(uses)).group_by(uses.c.context_id)
        return [each.subquery("of_uses")]

    return Uses(of, are_by_context=True)


def _of_sums(sums: DailySums, filters: Filters) -> Uses:
    """Return what contexts used, from the daily sums."""
    return Uses(sums.of_days(filters), are_by_context=False)


def _select_summed(sums: DailySums, by: CostBy, label: str | None, filters: Filters) -> sa.Select[Any]:
    """Return the same from the daily sums."""
    none = (NULL_TEXT, NULL_TEXT)
    if by not in ("day", "model", "user"):
        return select_by(by, label, _of_sums(sums, filters), user_of(filters))
    per, key = {"day": ("day", "day"), "model": ("model", "model_id"), "user": ("day", "user_id")}[by]
    rows = sums.by(per, (key,), filters).subquery("sums")
    shown: Sequence[sa.ColumnElement[Any]]
    if by == "day":
        shown = (sums.day_of(rows), NO_TEXT, *none)
    else:
        shown = (NO_DAY, rows.c[key], rows.c.user_id if by == "user" else NULL_TEXT, NULL_TEXT)
    return sa.select(*named(shown), *(rows.c[name] for name in ("tasks", *WHOLE)), *rounded_amounts(rows))


def select_models(filters: Filters) -> sa.Select[Any]:
    """Return the SELECT of the usage of each model on each day that the period touches."""
    uses = _uses(filters, None)
    keys = [uses.c[name] for name in ("day", *MODEL)]
    return sa.select(*keys, *_sums(uses)).group_by(*keys)


def select_models_summed(sums: DailySums, filters: Filters) -> sa.Select[Any]:
    """Return the same from the daily sums."""
    rows = sums.by("model", ("day", *MODEL), filters).subquery("sums")
    day = sums.day_of(rows).label("day")
    return sa.select(day, *(rows.c[name] for name in (*MODEL, *WHOLE)), *rounded_amounts(rows))


def _sums(uses: sa.FromClause) -> list[sa.ColumnElement[Any]]:
    """Return the sums of uses, without implausible values, as the views have them."""
    return [rounded(column).label(column.name) if column.name in AMOUNTS else column for column in usage_sums(uses)]


def _uses(filters: Filters, time: str | None, among: sa.Select[Any] | None = None) -> sa.Subquery:
    """Return the uses whose time is in the period, or whose day if it is None.

    The limit, which is none, keeps SQLite from joining their contexts where nothing of these is asked for.
    """
    names = ("context_id", "day", "model_id", "provider_id", "mode", *TOKEN_KINDS, "cost", "price_list", "duration")
    selected = sa.select(*(_USES.c[name] for name in (*names, "error")))
    selected = selected if among is None else selected.where(_USES.c.context_id.in_(among))
    return selected.where(*of_owner(_USES, filters), *in_period(_USES, filters, time, time)).offset(0).subquery("uses")


def _select_speed(filters: Filters) -> sa.Select[Any]:
    keys = ("model_id", "provider_id")
    of_run = (_USES.c.context_id, _USES.c.run_id, _USES.c.model_id, _USES.c.provider_id)
    before = sa.func.lag(_USES.c.error).over(partition_by=of_run, order_by=_USES.c.seq).label("error_before")
    columns = (*(_USES.c[name] for name in (*keys, "duration", "error", "day", "timestamp")), before)
    uses = sa.select(*columns).where(*of_owner(_USES, filters), *of_those_in_period(_USES, models, filters))
    found = uses.subquery("found")
    counted = sa.select(*found.c).where(*in_period(found, filters, "timestamp", "timestamp")).cte("counted")
    quick = select_percentiles(counted, keys, 50, 95)
    same = sa.and_(*(quick.c[key] == counted.c[key] for key in keys))
    return (
        sa.select(
            *(counted.c[key] for key in keys),
            sa.func.count().label("calls"),
            sa.func.count(counted.c.error).label("failures"),
            sa.func.count(counted.c.error_before).label("retries"),
            *(sa.func.max(quick.c[name], type_=sa.Double).label(name) for name in ("p50", "p95")),
        )
        .select_from(counted.outerjoin(quick, same))
        .group_by(*(counted.c[key] for key in keys))
    )


def _select_speed_summed(sums: DailySums, filters: Filters) -> sa.Select[Any]:
    """Return the same from the daily sums."""
    keys = ("model_id", "provider_id")
    rows = sums.by("model", keys, filters).subquery("sums")
    quick = select_percentiles(sums.times("model", keys, filters), keys, 50, 95)
    same = sa.and_(*(quick.c[key] == rows.c[key] for key in keys))
    columns = (*(rows.c[name] for name in (*keys, "calls", "failures", "retries")), quick.c.p50, quick.c.p95)
    return sa.select(*columns).select_from(rows.outerjoin(quick, same))


def _select_open(silence: float, filters: Filters) -> sa.Select[Any]:
    view, now = views.runs, clock.now()
    conditions = (*of_owner(view, filters), *in_period(view, filters, "started_at", "started_at"))
    # Its last save is near the end of the revisions of its context.
    saved = (
        sa.select(revisions.c.saved_at)
        .where(revisions.c.context_id == view.c.context_id, revisions.c.run_id == view.c.run_id)
        .order_by(revisions.c.revision.desc())
        .limit(1)
        .scalar_subquery()
    )
    title = sa.select(views.labels.c.value).where(
        views.labels.c.context_id == view.c.context_id, views.labels.c.name == "title"
    )
    copied = ("context_id", "user_id", "chat_id", "run_id", "day", "started_at", "started_utc", "saves")
    found = (
        sa.select(
            *(view.c[name] for name in copied),
            title.scalar_subquery().label("title"),
            sa.func.coalesce(saved, view.c.started_at, type_=sa.Double).label("heard_at"),
        )
        .where(view.c.outcome == "unfinished", *conditions)
        .subquery("found")
    )
    silent = sa.literal(now, sa.Double) - found.c.heard_at
    columns = {**found.c, "silent": silent, "broke_off": sa.case((silent > silence, 1), else_=0)}
    return sa.select(*(columns[name].label(name) for name in OpenRun.__dataclass_fields__))
