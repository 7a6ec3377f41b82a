"""What contexts add to the daily sums: the uses of models of each of their days, added up.

Of a day there is a row for everything, ``per`` "day", and one for each model, provider and mode, ``per`` "model". Sums
over several days must count a task once that used a model on more than one of them. So a row also tells the day before,
on which the context, or the same model in it, counts as well; where there is none it is the same day.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.model import TOKEN_KINDS
from taskctx_sql.sql.schema import views

WHOLE: Final = ("calls", "failures", *TOKEN_KINDS)
AMOUNTS: Final = ("cost", "estimated_cost", "duration")
SUMS: Final = ("tasks", *WHOLE, *AMOUNTS)
MODEL: Final = ("model_id", "provider_id", "mode")

# The day of uses without one: before all others, as no day is that has a date.
_NO_DAY: Final = {"sqlite": "''", "postgresql": "DATE '-infinity'"}
_MOST_TOKENS: Final = 10**12
_MOST: Final = 1e12

_PER_DAY: Final = sa.literal_column("'day'", sa.Text)
_PER_MODEL: Final = sa.literal_column("'model'", sa.Text)
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


def select_parts(engine: str, chosen: Callable[[sa.ColumnElement[str]], sa.ColumnElement[bool]]) -> sa.Select[Any]:
    """Return the SELECT of the parts of some contexts, from the rows; ``chosen`` is given the id of the context."""
    uses = views.uses
    day = sa.func.coalesce(uses.c.day, no_day(engine), type_=sa.Date).label("day")
    user = sa.func.coalesce(uses.c.user_id, _NOTHING).label("user_id")
    keys: list[sa.ColumnElement[Any]] = [uses.c.context_id, user, day, *(uses.c[name] for name in MODEL)]
    each = sa.select(*keys, *usage_sums(uses)).where(chosen(uses.c.context_id)).group_by(*keys).cte("each_model")
    of_day = [each.c[name] for name in ("context_id", "user_id", "day")]
    added = (
        *(sa.cast(sa.func.sum(each.c[name]), sa.BigInteger).label(name) for name in WHOLE),
        *(sa.func.sum(each.c[name], type_=sa.Double).label(name) for name in AMOUNTS),
    )
    days = sa.select(*of_day, *added).group_by(*of_day).cte("each_day")
    by_day = _with_previous(days, _PER_DAY, [_NOTHING] * len(MODEL), ("context_id",), ("day",))
    by_model = _with_previous(
        each, _PER_MODEL, [each.c[name] for name in MODEL], ("context_id", "model_id"), ("day", "provider_id", "mode")
    )
    parts = by_day.union_all(by_model).subquery("parts")
    return sa.select(*parts.c)


def _with_previous(
    rows: sa.FromClause,
    per: sa.ColumnElement[str],
    model: Sequence[sa.ColumnElement[Any]],
    counted: Sequence[str],
    order: Sequence[str],
) -> sa.Select[Any]:
    day = rows.c.day
    partition, ordered = [rows.c[name] for name in counted], [rows.c[name] for name in order]
    before = sa.func.lag(day, type_=sa.Date).over(partition_by=partition, order_by=ordered)
    return sa.select(
        rows.c.context_id,
        rows.c.user_id,
        per.label("per"),
        day,
        *(column.label(name) for column, name in zip(model, MODEL, strict=True)),
        sa.func.coalesce(before, day, type_=sa.Date).label("previous"),
        # A model may have several rows of a day, of which the first one counts the task.
        sa.cast(sa.case((before == day, 0), else_=1), sa.BigInteger).label("tasks"),
        *(rows.c[name] for name in (*WHOLE, *AMOUNTS)),
    )
