"""The updates and model uses of a restore: what is missing is written again, and what does not belong is removed."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import sqlalchemy as sa

from taskctx_sql.sql import engines
from taskctx_sql.sql.history.copies import insert_copies, remove, remove_given, root
from taskctx_sql.sql.load import in_revision
from taskctx_sql.sql.plan import Plan, Statement, Step, number, read_value, text

Flag = sa.ColumnElement[Any]
# Whether an entry is to be there, given whether any of its rows meets a condition.
Wanted = Callable[[sa.Table, Callable[[Flag], Flag]], Flag]


def was_there(table: sa.Table, any_row: Callable[[Flag], Flag]) -> Flag:
    """Return the condition for the entries that the revision had."""
    return any_row(sa.and_(*in_revision(table, "then")[1:]))


def would_be_there(table: sa.Table, any_row: Callable[[Flag], Flag]) -> Flag:
    """Return the condition for the entries that there would be without the revision.

    What it added goes and what it removed comes back; what it only wrote anew stays as it is now.
    """
    added, removed = any_row(table.c.added_in == number("then")), any_row(table.c.removed_in == number("then"))
    kept = sa.and_(any_row(_live(table)), sa.or_(sa.not_(added), removed))
    return sa.or_(sa.and_(removed, sa.not_(added)), kept)


def restore_rows(
    engine: str, wanted: Wanted, table: sa.Table, known: dict[str, Any], next_seq: int, *, by_time: bool
) -> Plan[tuple[int, int, int]]:
    """Return the plan that writes the wanted entries again and removes the others.

    It returns the next seq, the number of entries that came back, and the number of those removed. With ``by_time``
    the copies are in the order of their times, and are their own roots.
    """
    differing = (yield Step(_select_differing(wanted, table), known, reads=True)) or ()
    missing = [int(first) for first, seq in differing if seq is None]
    others = [int(seq) for _, seq in differing if seq is not None]
    if others:
        given = {**known, "given": engines.list_value(engine, others)}
        yield Step(remove_given(engine, table, "seq"), given)
    if not missing:
        return next_seq, 0, len(others)
    # What follows the first missing entry gets a new seq as well, which keeps the order.
    bounds = {**known, "first": min(missing)}
    copies = yield from read_value(_count_from(wanted, table), bounds)
    yield Step(_copy_from(wanted, table, by_time=by_time), {**bounds, "following": next_seq})
    yield Step(_remove_from(table), bounds)
    return next_seq + copies, len(missing), len(others)


def _live(table: sa.Table) -> Flag:
    # As before this restore: without what it has written, and with what it has removed.
    removed_now = table.c.removed_in == number("now")
    return sa.and_(sa.or_(table.c.removed_in.is_(None), removed_now), table.c.added_in < number("now"))


# The rows of an entry are grouped in one pass over the context. A self-join would compare each row with each other
# one, if the planner knows too little of the table.


def _in_group(condition: Flag) -> Flag:
    return sa.func.max(sa.case((condition, 1), else_=0)) == 1


@cache
def _select_differing(wanted: Wanted, table: sa.Table) -> Statement:
    # The roots of the missing entries, without a seq, and those of the entries to remove, with their seqs.
    live, wanted_now = _in_group(_live(table)), wanted(table, _in_group)
    seq = sa.func.max(sa.case((_live(table), table.c.seq)))
    statement = sa.select(root(table), seq).where(table.c.context_id == text("context")).group_by(root(table))
    return statement.having(sa.or_(sa.and_(wanted_now, sa.not_(live)), sa.and_(live, sa.not_(wanted_now))))


def _from_first(table: sa.Table) -> tuple[Flag, ...]:
    return table.c.seq >= number("first"), root(table) >= number("first")


@cache
def _count_from(wanted: Wanted, table: sa.Table) -> Statement:
    roots = sa.select(root(table)).where(table.c.context_id == text("context"), *_from_first(table))
    roots = roots.group_by(root(table))
    return sa.select(sa.func.count()).select_from(roots.having(wanted(table, _in_group)).subquery())


@cache
def _copy_from(wanted: Wanted, table: sa.Table, *, by_time: bool) -> Statement:
    def in_partition(condition: Flag) -> Flag:
        return sa.func.max(sa.case((condition, 1), else_=0)).over(partition_by=root(table)) == 1

    # Copies of one entry are equal, so any of them will do.
    newest = sa.func.row_number().over(partition_by=root(table), order_by=table.c.seq.desc())
    flags = (sa.case((wanted(table, in_partition), 1), else_=0).label("wanted"), newest.label("rank"))
    marked = sa.select(table, root(table).label("root"), *flags)
    rows = marked.where(table.c.context_id == text("context"), *_from_first(table)).subquery()
    order = (rows.c.timestamp, rows.c.root) if by_time else (rows.c.root,)
    position = sa.func.row_number().over(order_by=order)
    new = {
        "seq": number("following") - 1 + position,
        "added_in": number("now"),
        "removed_in": sa.null(),
        "run_id": text("run"),
        "copy_of": sa.null() if by_time else rows.c.root,
    }
    return insert_copies(table, rows, new, rows.c.wanted == 1, rows.c.rank == 1)


@cache
def _remove_from(table: sa.Table) -> Statement:
    return remove(table, *_from_first(table))
