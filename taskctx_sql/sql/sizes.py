"""How many rows a context has at most, for calls that may write all of them and get more time for it."""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy as sa

from taskctx_sql.sql import incomplete
from taskctx_sql.sql.plan import Plan, Statement, read_value, text
from taskctx_sql.sql.schema import contexts, updates


def count_rows(context_id: str) -> Plan[int]:
    """Return the plan that counts the rows that belong to a context, and the updates it ever had; 0 if there is none.

    It does not read the table of the updates, which another program may have locked.
    """
    return int((yield from read_value(_select(), {"context": context_id})) or 0)


@cache
def _select() -> Statement:
    # A Citus takes subqueries only beside a table of its own.
    parts = (_count(table) for table in incomplete.PARTS if table is not updates)
    return sa.select(sum(parts, contexts.c.next_seq)).where(contexts.c.context_id == text("context"))


def _count(table: sa.Table) -> sa.ColumnElement[Any]:
    counted = sa.select(sa.func.count()).select_from(table).where(table.c.context_id == text("context"))
    return counted.scalar_subquery()
