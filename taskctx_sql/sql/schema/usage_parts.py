"""What contexts add to the daily sums, by kind, which is the column ``per``.

Of each day of a context there is a row for all of its uses of models, "day"; one for each model, provider and mode,
"model"; one for each tool, "tool"; and one for each type of updates, "type". The rows of models and tools are apart by
how long a use or a call took, so that percentiles are exact. And there is one for what has no day, its runs and the
values beside its history, on the day it was created, "own". ``model_id`` has the name of the model, tool or type.

Sums over several days must count a task once that used a model on more than one of them. So a row also tells the day
before, on which the context, or the same model in it, counts as well; where there is none it is the same day.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.model import TOKEN_KINDS
from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import views
from taskctx_sql.sql.schema.tables import contexts, runs, state, updates

WHOLE: Final = ("calls", "failures", *TOKEN_KINDS)
AMOUNTS: Final = ("cost", "estimated_cost", "duration")
# Of calls of tools and uses of models, of updates, and of what has no day.
COUNTS: Final = ("retries", "open", "removed", "bytes", "runs", "failed_runs", "unfinished_runs")
SUMS: Final = ("tasks", *WHOLE, *COUNTS, *AMOUNTS)
MODEL: Final = ("model_id", "provider_id", "mode")
# What tells the sums of a day apart, and what besides tells the parts of a context apart.
KEYS: Final = ("day", "per", *MODEL, "previous")
PART: Final = ("context_id", "user_id", *KEYS, "took")
PER: Final = ("day", "model", "tool", "type", "own")

Chosen = Callable[[sa.ColumnElement[str]], sa.ColumnElement[bool]]

# The day of uses without one: before all others, as no day is that has a date.
_NO_DAY: Final = {"sqlite": "''", "postgresql": "DATE '-infinity'"}
_MOST_TOKENS: Final = 10**12
_MOST: Final = 1e12

_NOTHING: Final = sa.literal_column("''", sa.Text)


def no_day(engine: str) -> sa.ColumnElement[Any]:
    """Return the day that uses without a day have in the sums."""
    return sa.literal_column(_NO_DAY[engine], sa.Date)


def whole_sum(column: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    """Return the sum of numbers of tokens, without implausible ones, as the views have it."""
    plausible = sa.case((column.between(0, _MOST_TOKENS), column))
    return sa.cast(sa.func.coalesce(sa.func.sum(plausible), 0), sa.BigInteger)


def amount_sum(column: sa.ColumnElement[Any], *conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[float]:
    """Return the sum of costs or durations, likewise; it is not rounded."""
    amount = sa.case((sa.and_(column.between(-_MOST, _MOST), *conditions), column))
    return sa.func.coalesce(sa.func.sum(amount), 0.0, type_=sa.Double)


def usage_sums(uses: sa.FromClause) -> list[sa.ColumnElement[Any]]:
    """Return the sums of uses of models, labeled as `WHOLE` and `AMOUNTS`."""
    found: list[sa.ColumnElement[Any]] = [
        sa.func.count(),
        sa.func.count(uses.c.error),
        *(whole_sum(uses.c[kind]) for kind in TOKEN_KINDS),
        amount_sum(uses.c.cost),
        amount_sum(uses.c.cost, uses.c.price_list.is_not(None)),
        amount_sum(uses.c.duration),
    ]
    return [column.label(name) for column, name in zip(found, (*WHOLE, *AMOUNTS), strict=True)]


def select_parts(engine: str, chosen: Chosen, wanted: Sequence[str] = PER) -> sa.Select[Any]:
    """Return the SELECT of the parts of some contexts, from the rows; ``chosen`` is given the id of the context.

    The columns are `PART` and `SUMS`. Only parts of the wanted kinds are computed.
    """
    found: list[sa.Select[Any]] = []
    if "day" in wanted or "model" in wanted:
        each = _each_model(engine, chosen)
        by_model = _with_previous(each, "model", ("model_id",), ("day", "provider_id", "mode", "took"))
        found += [_per_day(each)] if "day" in wanted else []
        found += [by_model] if "model" in wanted else []
    found += [_per_tool(engine, chosen)] if "tool" in wanted else []
    found += [_per_type(engine, chosen)] if "type" in wanted else []
    found += [_own(engine, chosen)] if "own" in wanted else []
    parts = sa.union_all(*found).subquery("parts")
    return sa.select(*parts.c)


def _each_model(engine: str, chosen: Chosen) -> sa.CTE:
    uses = views.uses
    of_run = (uses.c.context_id, uses.c.run_id, uses.c.model_id, uses.c.provider_id)
    before = sa.func.lag(uses.c.error).over(partition_by=of_run, order_by=uses.c.seq).label("error_before")
    some = sa.select(*uses.c, before).where(chosen(uses.c.context_id)).subquery("some")
    user = sa.func.coalesce(some.c.user_id, _NOTHING).label("user_id")
    took = some.c.duration.label("took")
    keys = [some.c.context_id, user, _day(engine, some.c.day), *(some.c[name] for name in MODEL), took]
    retries = sa.func.count(some.c.error_before).label("retries")
    return sa.select(*keys, *usage_sums(some), retries).group_by(*keys).cte()


def _per_day(each: sa.CTE) -> sa.Select[Any]:
    of_day = [each.c[name] for name in ("context_id", "user_id", "day")]
    added = (
        *(_added(each.c[name]).label(name) for name in (*WHOLE, "retries")),
        *(sa.func.sum(each.c[name], type_=sa.Double).label(name) for name in AMOUNTS),
    )
    return _with_previous(sa.select(*of_day, *added).group_by(*of_day).cte(), "day", (), ("day",))


def _with_previous(rows: sa.FromClause, per: str, counted: Sequence[str], order: Sequence[str]) -> sa.Select[Any]:
    day = rows.c.day
    partition, ordered = [rows.c[name] for name in ("context_id", *counted)], [rows.c[name] for name in order]
    before = sa.func.lag(day, type_=sa.Date).over(partition_by=partition, order_by=ordered)
    # A model may have several rows of a day, of which the first one counts the task.
    tasks = sa.cast(sa.case((before == day, 0), else_=1), sa.BigInteger)
    return _part(per, dict(rows.c.items()), {"previous": sa.func.coalesce(before, day, type_=sa.Date), "tasks": tasks})


def _per_tool(engine: str, chosen: Chosen) -> sa.Select[Any]:
    calls = views.calls
    of_run = (calls.c.context_id, calls.c.run_id, calls.c.name, calls.c.arguments)
    before = sa.func.lag(calls.c.outcome).over(partition_by=of_run, order_by=calls.c.seq).label("before")
    # A restore writes calls again, which count once.
    some = sa.select(*calls.c, before).where(chosen(calls.c.context_id), calls.c.copied == 0).subquery("some_calls")

    def number(column: sa.ColumnElement[str], outcome: str) -> sa.ColumnElement[int]:
        return sa.func.count(sa.case((column == _text(outcome), 1)))

    keys: dict[str, Any] = {"context_id": some.c.context_id, "user_id": some.c.user_id, "day": _day(engine, some.c.day)}
    keys |= {"model_id": some.c.name, "took": some.c.duration}
    sums = {"calls": sa.func.count(), "failures": number(some.c.outcome, "failed")}
    sums |= {"retries": number(some.c.before, "failed"), "open": number(some.c.outcome, "open")}
    return _part("tool", keys, sums).group_by(*keys.values())


def _per_type(engine: str, chosen: Chosen) -> sa.Select[Any]:
    keys: dict[str, Any] = {"context_id": contexts.c.context_id, "user_id": contexts.c.user_id}
    keys |= {"day": _day(engine, engines.day_of(updates.c.timestamp)), "model_id": updates.c.update_type}
    size = engines.size_of(updates.c.data) + engines.size_of(updates.c.metadata)
    sums = {"calls": sa.func.count(), "removed": sa.func.count(updates.c.removed_in), "bytes": _added(size)}
    rows = _part("type", keys, sums).join_from(updates, contexts, contexts.c.context_id == updates.c.context_id)
    return rows.where(chosen(updates.c.context_id), contexts.c.revision > 0).group_by(*keys.values())


def _own(engine: str, chosen: Chosen) -> sa.Select[Any]:
    keys: dict[str, Any] = {"context_id": contexts.c.context_id, "user_id": contexts.c.user_id}
    keys["day"] = _day(engine, engines.day_of(contexts.c.created_at))

    def number(*conditions: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
        of_context = sa.select(sa.func.count()).where(runs.c.context_id == contexts.c.context_id, *conditions)
        return of_context.scalar_subquery()

    sizes = sa.select(_added(engines.size_of(state.c.value))).where(state.c.context_id == contexts.c.context_id)
    sums = {"calls": sa.literal_column("1"), "bytes": sizes.scalar_subquery(), "runs": number()}
    sums["failed_runs"] = number(runs.c.outcome == _text("failed"))
    sums["unfinished_runs"] = number(runs.c.outcome.is_(None))
    return _part("own", keys, sums).where(chosen(contexts.c.context_id), contexts.c.revision > 0)


def _part(per: str, keys: Mapping[str, Any], sums: Mapping[str, Any]) -> sa.Select[Any]:
    """Return the SELECT of a kind of parts, with the columns of all."""
    columns: dict[str, Any] = dict.fromkeys(MODEL, _NOTHING)
    columns |= {"took": sa.cast(sa.null(), sa.Double), "previous": keys["day"], "per": _text(per)}
    columns |= {name: sa.cast(sa.null(), sa.Double if name in AMOUNTS else sa.BigInteger) for name in SUMS}
    columns |= {**keys, **sums}
    return sa.select(*(columns[name].label(name) for name in (*PART, *SUMS)))


def _day(engine: str, day: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    return sa.func.coalesce(day, no_day(engine), type_=sa.Date).label("day")


def _added(column: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    return sa.cast(sa.func.sum(column), sa.BigInteger)


def _text(text: str) -> sa.ColumnElement[str]:
    return sa.literal_column(f"'{text}'", sa.Text)
