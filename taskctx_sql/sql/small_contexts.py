"""Small contexts, many of which share a transaction: how many rows they have, and in which groups they are taken.

Their statements are about several contexts, so they are not for tables that are spread over machines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Final, TypeVar

import sqlalchemy as sa

from taskctx_sql.sql import engines, incomplete
from taskctx_sql.sql.plan import Plan, Statement, Step
from taskctx_sql.sql.schema import contexts

T = TypeVar("T")
Counts = dict[str, int]

# So many contexts share a transaction at most.
MOST_CONTEXTS: Final = 200


def count_rows(engine: str, context_ids: Sequence[str]) -> Plan[dict[str, Counts]]:
    """Count the rows of contexts by table, by the context's id."""
    counts: dict[str, Counts] = {context_id: {contexts.name: 1} for context_id in context_ids}
    given = {"given": engines.list_value(engine, context_ids)}
    for table in incomplete.PARTS if context_ids else ():
        for context_id, count in (yield Step(_count(engine, table), given, reads=True)) or ():
            counts[context_id][table.name] = count
    return counts


def in_groups(items: Sequence[T], rows_of: Callable[[T], int | None], most_rows: int) -> Iterator[list[T]]:
    """Yield items in groups that have so many rows at most; one that has more, or None, is by itself."""
    group: list[T] = []
    room = most_rows
    for item in items:
        rows = rows_of(item)
        if group and (rows is None or rows > room or len(group) == MOST_CONTEXTS):
            yield group
            group, room = [], most_rows
        group.append(item)
        room = 0 if rows is None else room - rows
    if group:
        yield group


@cache
def _count(engine: str, table: sa.Table) -> Statement:
    statement = sa.select(table.c.context_id, sa.func.count())
    return statement.where(engines.is_in_list(engine, table.c.context_id, "given")).group_by(table.c.context_id)
