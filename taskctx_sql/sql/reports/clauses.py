"""The WHERE, ORDER BY and LIMIT clauses that the reports share, and their rows as dataclasses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, date, datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.limits import check_number
from taskctx_sql.model import ContextKey
from taskctx_sql.model.report_filters import DAY, Filters, seconds
from taskctx_sql.sql.row_codec import AnyRow

T = TypeVar("T")


def user_of(filters: Filters) -> str | None:
    """Return the user of the filters, as contexts have it."""
    user_id = filters.get("user_id")
    return None if user_id is None else ContextKey(user_id, "").user_id


def of_owner(view: sa.FromClause, filters: Filters) -> list[sa.ColumnElement[bool]]:
    """Check the filters, and return the conditions for the user and the chat."""
    # Type checkers report it as well; without both, a misspelled filter would show the rows of all users.
    if unknown := filters.keys() - Filters.__annotations__.keys():
        raise TypeError(f"reports have no filter {min(unknown)!r}: use {', '.join(Filters.__annotations__)}")
    check_number("limit", filters.get("limit"), 0, optional=True)
    chat_id = filters.get("chat_id")
    wanted = {"user_id": user_of(filters), "chat_id": None if chat_id is None else ContextKey("", chat_id).chat_id}
    return [view.c[name] == value for name, value in wanted.items() if value is not None and name in view.c]


def in_period(
    view: sa.FromClause, filters: Filters, first: str | None, last: str | None
) -> list[sa.ColumnElement[bool]]:
    """Return the conditions for the period.

    The column ``first`` must be before its end, and ``last`` not before its beginning; ``day`` has the indexed day of
    ``first``. If both are the same column, or None, ``day`` is compared with the beginning, too.
    """
    conditions: list[sa.ColumnElement[bool]] = []
    by_day = first == last and "day" in view.c
    if (since := filters.get("since")) is not None:
        begin = seconds(since)
        conditions += [view.c.day >= _day_of(begin)] if by_day else []
        conditions += [view.c[last] >= begin] if last else []
    if (until := filters.get("until")) is not None:
        end = seconds(until, end=True)
        # The end is exclusive: a period that ends at midnight has no row of the day that begins then.
        last_day = _day_of(end - 1 if end % DAY == 0 else end)
        conditions += [view.c.day <= last_day] if "day" in view.c else []
        conditions += [view.c[first] < end] if first else []
    return conditions


def _day_of(moment: float) -> date:
    """Return the UTC day of a time, or the nearest day that a `date` can be."""
    try:
        return datetime.fromtimestamp(moment, UTC).date()
    except (ValueError, OverflowError, OSError):
        return date.max if moment > 0 else date.min


def page(
    rows: sa.FromClause, names: Sequence[str], order: Sequence[str], after: Any, limit: int | None
) -> sa.Select[Any]:
    """Return the statement for one page of rows, those that follow the row ``after``, with the given columns.

    They are ordered by columns of ``rows``; a minus stands for descending. NULL comes last in both directions.
    """
    statement = sa.select(*(rows.c[name] for name in names))
    if after is not None:
        if not all(hasattr(after, name.lstrip("-")) for name in order):
            raise InvalidArgumentError("after", after, "the last row of the previous page")
        statement = statement.where(_comes_after(rows, order, after))
    return statement.order_by(*ordered(rows, order)).limit(limit)


def ordered(rows: sa.FromClause, order: Sequence[str]) -> list[sa.ColumnElement[Any]]:
    """Return the elements of ORDER BY."""
    return [(sa.desc if name.startswith("-") else sa.asc)(rows.c[name.lstrip("-")]).nulls_last() for name in order]


def _comes_after(rows: sa.FromClause, order: Sequence[str], row: Any) -> sa.ColumnElement[bool]:
    """Return the condition for the rows that follow a row."""
    name = order[0].lstrip("-")
    column, value = rows.c[name], getattr(row, name)
    rest = _comes_after(rows, order[1:], row) if len(order) > 1 else sa.false()
    if isinstance(value, bool):
        value = int(value)
    if value is None:
        return sa.and_(column.is_(None), rest)
    beyond = column < value if order[0].startswith("-") else column > value
    return sa.or_(beyond, column.is_(None), sa.and_(column == value, rest))


def columns_of(kind: type[Any], view: sa.FromClause) -> list[sa.ColumnElement[Any]]:
    """Return the columns that hold the fields of a row type."""
    return [view.c[field.name] for field in fields(kind)]


def typed(kind: type[T], rows: Sequence[AnyRow]) -> list[T]:
    """Return rows as dataclasses; the database returns flags as 0 and 1."""
    flags = [field.type == "bool" for field in fields(kind)]  # type: ignore[arg-type]  # every row is a dataclass
    if not any(flags):
        return [kind(*row) for row in rows]
    return [kind(*(bool(value) if flag else value for value, flag in zip(row, flags, strict=True))) for row in rows]
