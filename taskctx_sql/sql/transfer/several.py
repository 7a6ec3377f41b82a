"""Several small contexts, which are read, written and compared together: plans and their statements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from taskctx_sql.sql import engines
from taskctx_sql.sql.plan import Plan, Rows, Step, columns, insertion
from taskctx_sql.sql.schema import contexts
from taskctx_sql.sql.transfer.rows import REVISIONS, TABLES, ContextRow, ContextTable, Row

# The column that says in which revision a row was created.
_CREATED_IN: Final = {table: "added_in" for table in TABLES if table.has_removals} | {REVISIONS: "revision"}

# The rows of a context by table, in any order.
RowsOfContext = Mapping[ContextTable, Sequence[Row]]


class Found(NamedTuple):
    """A context as it was after its rows were read; None if it was gone. The rows are as of an earlier revision."""

    now: ContextRow | None
    rows: RowsOfContext


def read_contexts(engine: str, context_ids: Sequence[str]) -> Plan[dict[str, ContextRow]]:
    """Read the rows of contexts that are there, incomplete ones too, by the contexts' ids."""
    given = {"given": engines.list_value(engine, context_ids)}
    rows = (yield Step(_select(engine, contexts), given, reads=True)) if context_ids else ()
    return {row[0]: ContextRow(*row) for row in rows or ()}


def read_rows(engine: str, wanted: Sequence[ContextRow]) -> Plan[dict[str, Found]]:
    """Read all rows of contexts as of their revisions, and then the contexts' own, by the contexts' ids."""
    if not wanted:
        return {}
    found: dict[str, dict[ContextTable, list[Row]]] = {
        context.context_id: {table: [] for table in TABLES} for context in wanted
    }
    as_of = {context.context_id: context.revision for context in wanted}
    given = {"given": engines.list_value(engine, list(as_of))}
    for table in TABLES:
        for row in (yield Step(_select(engine, table.table), given, reads=True)) or ():
            found[row[0]][table].append(tuple(row))
    for context_id, rows in found.items():
        for table in _CREATED_IN:
            rows[table] = _as_of(table, rows[table], as_of[context_id])
    now = yield from read_contexts(engine, list(as_of))
    return {context_id: Found(now.get(context_id), rows) for context_id, rows in found.items()}


def add(engine: str, new: Sequence[ContextRow], rows: Mapping[str, Found]) -> Plan[list[ContextRow]]:
    """Add whole contexts, except those of which something is there already. Return those that were added.

    If somebody else adds one of them at the same moment, the transaction fails.
    """
    there = yield from read_contexts(engine, [context.context_id for context in new])
    added = [context for context in new if context.context_id not in there]
    if added:
        # Under row-level security, rows without a context's own row could not be added.
        yield Step(insertion(contexts), Rows(columns(contexts), added, contexts))
    for table in TABLES:
        if rows_of_all := [row for context in added for row in rows[context.context_id].rows[table]]:
            yield Step(insertion(table.table), Rows(columns(table.table), rows_of_all, table.table))
    return added


def all_rows(found: Mapping[str, Found]) -> Iterator[Row]:
    """Return the rows of all contexts."""
    return (row for context in found.values() for rows in context.rows.values() for row in rows)


def are_same(some: RowsOfContext, others: RowsOfContext) -> bool:
    """Whether two contexts have the same rows in every table."""
    return all(set(some[table]) == set(others[table]) for table in TABLES)


def _as_of(table: ContextTable, rows: Sequence[Row], revision: int) -> list[Row]:
    """Return the rows that were created by a revision, as they were then."""
    created = table.place(_CREATED_IN[table])
    rows = [row for row in rows if row[created] <= revision]
    if table.has_removals:
        removed = table.place("removed_in")
        rows = [(*row[:removed], None, *row[removed + 1 :]) if (row[removed] or 0) > revision else row for row in rows]
    return list(rows)


@cache
def _select(engine: str, table: sa.Table) -> sa.Select[*tuple[Any, ...]]:
    return sa.select(table).where(engines.is_in_list(engine, table.c.context_id, "given"))
