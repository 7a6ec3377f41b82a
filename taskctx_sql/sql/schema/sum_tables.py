"""The tables of the daily sums, as queries name them."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.sql.schema.usage_parts import AMOUNTS, MODEL, SUMS

QUEUE: Final = "taskctx_sums_queue"
DAYS: Final = "taskctx_sums_days"
PARTS: Final = "taskctx_sums_parts"
FRESH: Final = "taskctx_sums_fresh"
CHANGED: Final = "taskctx_sums_changed"

metadata: Final = sa.MetaData()


def _columns() -> list[sa.Column[Any]]:
    return [
        *(sa.Column(name, sa.Text) for name in ("user_id", "per")),
        sa.Column("day", sa.Date),
        *(sa.Column(name, sa.Text) for name in MODEL),
        sa.Column("previous", sa.Date),
        *(sa.Column(name, sa.Double if name in AMOUNTS else sa.BigInteger) for name in SUMS),
    ]


# Contexts that are to be summed.
queue: Final = sa.Table(QUEUE, metadata, sa.Column("context_id", sa.Text, primary_key=True))
# What contexts add to the sums. Those of calls and uses that took a time have it.
parts: Final = sa.Table(PARTS, metadata, sa.Column("context_id", sa.Text), *_columns(), sa.Column("took", sa.Double))
# The sums by user; without a user, those of everybody.
days: Final = sa.Table(DAYS, metadata, *_columns())
