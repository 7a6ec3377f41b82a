"""The WHERE, ORDER BY and LIMIT clauses that the reports share, and their rows as dataclasses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.limits import check_number
from taskctx_sql.model import ContextKey
from taskctx_sql.model.report_filters import DAY, Filters, seconds
from taskctx_sql.model.report_rows import column_fields
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.engines import day_of
from taskctx_sql.sql.load import labels_of
from taskctx_sql.sql.schema import contexts

T = TypeVar("T")

# By the type of a field, where the database returns another.
_READERS: Final[dict[str, Callable[[Any], Any]]] = {"bool": bool, "Mapping[str, str]": labels_of}


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
    user_id, chat_id = user_of(filters), filters.get("chat_id")
    if user_id is not None and chat_id is not None and "context_id" in view.c:
        # One context: by its key, however many the user has.
        return [view.c.context_id == row_codec.context_id(ContextKey(user_id, chat_id))]
    wanted = {"user_id": user_id, "chat_id": None if chat_id is None else ContextKey("", chat_id).chat_id}
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
    first_day, last_day = days_of(filters)
    if (since := filters.get("since")) is not None:
        begin = seconds(since)
        conditions += [view.c.day >= first_day] if by_day else []
        conditions += [view.c[last] >= begin] if last else []
    if (until := filters.get("until")) is not None:
        end = seconds(until, end=True)
        conditions += [view.c.day <= last_day] if "day" in view.c else []
        conditions += [view.c[first] < end] if first else []
    return conditions


def of_those_in_period(
    view: sa.Table, table: sa.Table, filters: Filters, *conditions: sa.ColumnElement[bool]
) -> list[sa.ColumnElement[bool]]:
    """Return the condition for all rows of the contexts that have one in the period: what was before it may matter.

    The table is the one whose rows, with the conditions, are those of the view.
    """
    if filters.get("since") is None and filters.get("until") is None:
        return []
    columns = (table.c.context_id, table.c.timestamp, day_of(table.c.timestamp).label("day"))
    rows = sa.select(*columns).where(*conditions)
    if owned := of_owner(contexts, filters):
        rows = rows.join(contexts, contexts.c.context_id == table.c.context_id).where(*owned)
    some = rows.subquery("some")
    found = sa.select(some.c.context_id).distinct().where(*in_period(some, filters, "timestamp", "timestamp"))
    # The limit, which is none, keeps Postgres from looking for one in the period anew for each row of a context.
    return [view.c.context_id.in_(found.offset(0))]


def days_of(filters: Filters) -> tuple[date | None, date | None]:
    """Return the first and the last day that the period touches."""
    first = last = None
    if (since := filters.get("since")) is not None:
        first = _day_of(seconds(since))
    if (until := filters.get("until")) is not None:
        end = seconds(until, end=True)
        # The end is exclusive: a period that ends at midnight has no row of the day that begins then.
        last = _day_of(end - 1 if end % DAY == 0 else end)
    return first, last


def has_whole_days(filters: Filters) -> bool:
    """Return whether the period begins and ends with a day, and not before 1970.

    There, what happened in the second before a day counts as of this day, but not as in a period that begins with it.
    """
    since, until = filters.get("since"), filters.get("until")
    begin = DAY if since is None else seconds(since)
    end = DAY if until is None else seconds(until, end=True)
    return begin > 0 and begin % DAY == 0 and end % DAY == 0


def rounded(value: sa.ColumnElement[Any]) -> sa.ColumnElement[float]:
    """Return a sum of floats as every engine has it: they do not add in the same order."""
    return sa.cast(sa.func.round(sa.cast(value, sa.Numeric), 9), sa.Double)


def is_readable(engine: str, schema: str | None, *names: str, whole: bool = False) -> sa.Select[Any]:
    """Return the SELECT of whether there are tables of these names, and this account may read them.

    With ``whole``, all of their rows: not where row-level security shows it those of one user.
    """
    if engine == "sqlite":
        found = sa.table("sqlite_master", sa.column("name", sa.Text), sa.column("type", sa.Text))
        count = sa.select(sa.func.count() == len(names)).select_from(found)
        # A trigger may have the name of a table.
        return count.where(found.c.name.in_(names), found.c.type == "table")
    usable: list[sa.ColumnElement[bool]] = []
    for table in names:
        name: sa.ColumnElement[str] = sa.literal(table, sa.Text)
        if schema is not None:
            name = sa.func.quote_ident(sa.literal(schema, sa.Text)).concat(f".{table}")
        oid = sa.cast(sa.func.to_regclass(name), postgresql.OID)
        usable.append(sa.func.has_table_privilege(oid, sa.literal("SELECT", sa.Text)))
        usable += [sa.not_(sa.func.row_security_active(oid))] if whole else []
    return sa.select(sa.func.coalesce(sa.and_(*usable), False))


def _day_of(moment: float) -> date:
    """Return the UTC day of a time, or the nearest day that a `date` can be."""
    try:
        return datetime.fromtimestamp(moment, UTC).date()
    except (ValueError, OverflowError, OSError):
        return date.max if moment > 0 else date.min


def page(
    rows: sa.FromClause,
    names: Sequence[str],
    order: Sequence[str],
    after: Any,
    limit: int | None,
    filled: Collection[str] = (),
) -> sa.Select[Any]:
    """Return the statement for one page of rows, those that follow the row ``after``, with the given columns.

    They are ordered by columns of ``rows``; a minus stands for descending. NULL comes last in both directions; columns
    that have none are ``filled``.
    """
    statement = sa.select(*(rows.c[name] for name in names))
    if after is not None:
        if not all(hasattr(after, name.lstrip("-")) for name in order):
            raise InvalidArgumentError("after", after, "the last row of the previous page")
        statement = statement.where(comes_after(rows, order, after))
    return statement.order_by(*ordered(rows, order, filled)).limit(limit)


def ordered(rows: sa.FromClause, order: Sequence[str], filled: Collection[str] = ()) -> list[sa.ColumnElement[Any]]:
    """Return the elements of ORDER BY."""
    found: list[sa.ColumnElement[Any]] = []
    for name in order:
        column = rows.c[name.lstrip("-")]
        element = column.desc() if name.startswith("-") else column.asc()
        # With NULLS LAST, Postgres reads no index backwards.
        found.append(element if name.lstrip("-") in filled else element.nulls_last())
    return found


def comes_after(rows: sa.FromClause, order: Sequence[str], row: Any) -> sa.ColumnElement[bool]:
    """Return the condition for the rows that follow a row."""
    name = order[0].lstrip("-")
    column, value = rows.c[name], getattr(row, name)
    rest = comes_after(rows, order[1:], row) if len(order) > 1 else sa.false()
    if isinstance(value, bool):
        value = int(value)
    if value is None:
        return sa.and_(column.is_(None), rest)
    beyond = column < value if order[0].startswith("-") else column > value
    return sa.or_(beyond, column.is_(None), sa.and_(column == value, rest))


def columns_of(kind: type[Any], view: sa.FromClause) -> list[sa.ColumnElement[Any]]:
    """Return the columns that hold the fields of a row type."""
    return [view.c[field.name] for field in column_fields(kind)]


def typed(kind: type[T], rows: Sequence[Sequence[Any]]) -> list[T]:
    """Return rows as dataclasses; the database returns flags as 0 and 1, and mappings as JSON text."""
    readers = [_READERS.get(str(field.type)) for field in column_fields(kind)]
    if not any(readers):
        return [kind(*row) for row in rows]
    return [kind(*(read(value) if read else value for value, read in zip(row, readers, strict=True))) for row in rows]
