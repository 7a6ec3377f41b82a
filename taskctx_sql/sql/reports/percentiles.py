"""Percentiles of durations, the same on both engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa


def select_percentiles(rows: sa.FromClause, keys: Sequence[str], *percents: int) -> sa.Subquery:
    """Return, for each group of rows by some keys, its percentiles of the column ``duration`` as ``p50`` and so on.

    A percentile is the least duration that at least so many percent are not above, as percentile_disc of Postgres has
    it. Rows without a duration are left out. A column ``times`` says how often a duration is there.
    """
    names, times = [rows.c[key] for key in keys], rows.c.get("times", sa.literal_column("1"))
    timed = sa.select(*names, rows.c.duration, times.label("times")).where(rows.c.duration.is_not(None)).cte("timed")
    grouped = [timed.c[key] for key in keys]
    numbers = sa.select(*grouped, sa.func.sum(timed.c.times).label("number")).group_by(*grouped).subquery("numbers")
    place = sa.func.sum(timed.c.times).over(partition_by=grouped, order_by=timed.c.duration, rows=(None, 0))
    ranked = sa.select(*timed.c, place.label("place")).subquery("ranked")

    def percentile(percent: int) -> sa.ColumnElement[Any]:
        reached = ranked.c.place * 100 >= numbers.c.number * percent
        return sa.func.min(sa.case((reached, ranked.c.duration)), type_=sa.Double).label(f"p{percent}")

    same = sa.and_(*(ranked.c[key] == numbers.c[key] for key in keys))
    grouped = [ranked.c[key] for key in keys]
    found = sa.select(*grouped, *map(percentile, percents)).select_from(ranked.join(numbers, same))
    return found.group_by(*grouped).subquery("percentiles")
