"""Rows that a restore or an edit wrote anew: under which seqs they are now.

A copy keeps in ``copy_of`` its root: the seq that the entry was first written under.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from taskctx_sql.sql import engines
from taskctx_sql.sql.plan import Plan, Statement, Step, number, read_value, text
from taskctx_sql.sql.schema import revisions, updates


def root(table: sa.Table) -> sa.ColumnElement[int]:
    """Return the seq that a row's entry was first written under."""
    return sa.func.coalesce(table.c.copy_of, table.c.seq)


def insert_copies(table: sa.Table, source: sa.FromClause, new: dict[str, Any], *conditions: Any) -> Statement:
    """Return the INSERT of copies of the source's rows, with new values in some of the columns."""
    values = [new.get(column.name, source.c[column.name]) for column in table.c]
    chosen = sa.select(*values).where(*conditions)
    return sa.insert(table).from_select(list(table.c.keys()), chosen, include_defaults=False)


def remove(table: sa.Table, *conditions: sa.ColumnElement[bool]) -> Statement:
    """Return the UPDATE that removes rows of the context "context" that were there before the revision "now"."""
    live = (table.c.context_id == text("context"), table.c.removed_in.is_(None), table.c.added_in < number("now"))
    return sa.update(table).where(*live, *conditions).values(removed_in=number("now"))


@cache
def remove_given(engine: str, table: sa.Table, column: str) -> Statement:
    """Return the UPDATE that removes the rows whose value in a column is in the list "given"."""
    return remove(table, engines.is_in_list(engine, table.c[column], "given"))


def restored_since(context_id: str, revision: int) -> Plan[bool]:
    """Return the plan that reads whether anything was restored after a revision."""
    return bool((yield from read_value(_count_restores_since(), {"context": context_id, "then": revision})))


def current_seqs(
    engine: str, table: sa.Table, context_id: str, seqs: Sequence[int], *, copied: bool
) -> Plan[dict[int, int]]:
    """Return the plan that reads the current seqs of rows by their known seqs; removed rows are left out.

    ``copied`` says whether a restore may have given the rows new seqs.
    """
    if not seqs:
        return {}
    wanted = {"context": context_id, "seqs": engines.list_value(engine, seqs)}
    rows = (yield Step(_select_given(engine, table), wanted, reads=True)) or ()
    current = {int(seq): int(seq) for seq, _, removed_in in rows if removed_in is None}
    removed = {int(root): int(seq) for seq, root, removed_in in rows if removed_in is not None}
    # An older version may have pruned a row of which there is a copy. Then the row is the copy's root.
    removed |= {seq: seq for seq in set(seqs).difference(int(seq) for seq, _, _ in rows)}
    if copied and removed:
        wanted = {"context": context_id, "roots": engines.list_value(engine, list(removed))}
        rows = (yield Step(_select_copies(engine, table), wanted, reads=True)) or ()
        current |= {removed[int(root)]: int(seq) for seq, root in rows}
    return current


def may_be_rewritten(engine: str, table: sa.Table, context_id: str, seqs: Collection[int], since: int) -> Plan[bool]:
    """Return the plan that reads whether an edit after a revision may have written any of these removed rows anew.

    An edit gives the rows that follow it new seqs without a root, so they are compared by time and type.
    """
    wanted = {"context": context_id, "seqs": engines.list_value(engine, list(seqs))}
    removed = (yield Step(_select_marks_of(engine, table), wanted, reads=True)) or ()
    if len(removed) < len(seqs):
        # Some were pruned, and cannot be compared.
        return True
    added = (yield Step(_select_marks_since(table), {"context": context_id, "then": since}, reads=True)) or ()
    return not set(map(tuple, removed)).isdisjoint(map(tuple, added))


@cache
def _count_restores_since() -> Statement:
    restores = sa.or_(*(revisions.c.operation == sa.literal_column(f"'{name}'") for name in ("restore", "undo")))
    since = revisions.c.revision > number("then")
    return sa.select(sa.func.count()).where(revisions.c.context_id == text("context"), since, restores)


@cache
def _select_given(engine: str, table: sa.Table) -> Statement:
    given = (table.c.context_id == text("context"), engines.is_in_list(engine, table.c.seq, "seqs"))
    return sa.select(table.c.seq, root(table), table.c.removed_in).where(*given)


@cache
def _select_copies(engine: str, table: sa.Table) -> Statement:
    copies = (table.c.removed_in.is_(None), engines.is_in_list(engine, table.c.copy_of, "roots"))
    return sa.select(table.c.seq, table.c.copy_of).where(table.c.context_id == text("context"), *copies)


def _select_marks(table: sa.Table) -> sa.Select[Any]:
    mark = table.c.update_type if table is updates else table.c.model_id
    return sa.select(table.c.timestamp, mark).where(table.c.context_id == text("context"))


@cache
def _select_marks_of(engine: str, table: sa.Table) -> Statement:
    return _select_marks(table).where(engines.is_in_list(engine, table.c.seq, "seqs"))


@cache
def _select_marks_since(table: sa.Table) -> Statement:
    return _select_marks(table).where(table.c.removed_in.is_(None), table.c.added_in > number("then"))
