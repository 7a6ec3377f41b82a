"""Percentiles of durations, the same on both engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa


def select_percentiles(rows: sa.CTE, keys: Sequence[str], *percents: int) -> sa.Subquery:
    """Return, for each group of rows by some keys, its percentiles of the column ``duration`` as ``p50`` and so on.

    A percentile is the least duration that at least so many percent are not above, as percentile_disc of Postgres has
    it. Rows without a duration are left out.
    """
    names = [rows.c[key] for key in keys]
    place = sa.func.row_number().over(partition_by=names, order_by=rows.c.duration)
    number = sa.func.count().over(partition_by=names)
    ranked = (
        sa.select(*names, rows.c.duration, place.label("place"), number.label("number"))
        .where(rows.c.duration.is_not(None))
        .subquery("ranked")
    )

    def percentile(percent: int) -> sa.ColumnElement[Any]:
        reached = ranked.c.place * 100 >= ranked.c.number * percent
        return sa.func.min(sa.case((reached, ranked.c.duration)), type_=sa.Double).label(f"p{percent}")

    grouped = [ranked.c[key] for key in keys]
    return sa.select(*grouped, *map(percentile, percents)).group_by(*grouped).subquery("percentiles")
