"""What the reports have in common: whose rows, of which time, and page by page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, date, datetime, time
from typing import Any, Final, NamedTuple, TypedDict, TypeVar

import sqlalchemy as sa

from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.limits import check_number, check_real
from taskctx_sql.model import ContextKey
from taskctx_sql.sql.row_codec import AnyRow

T = TypeVar("T")

PAGE: Final = 100
DAY: Final = 86_400

Moment = date | datetime | float


class Filters(TypedDict, total=False):
    """Which rows of a report.

    Attributes:
        user: Whose; all users' if None.
        chat: Which chat's; all if None.
        since: From when on. A `date` stands for its beginning in UTC, a `datetime` without a zone is UTC, and a number
            is seconds since the epoch.
        until: Until when, itself not included; a `date` for its end.
        limit: How many rows at the most; 100 if not given. ``after`` takes the last one, for the next page.
    """

    user: str | None
    chat: str | None
    since: Moment | None
    until: Moment | None
    limit: int


class Order(NamedTuple):
    """A column that rows are ordered by. NULL comes last either way."""

    column: sa.ColumnElement[Any]
    name: str
    descending: bool = False


def seconds(moment: Moment, *, end: bool = False) -> float:
    """Return seconds since the epoch; of a day its beginning, or with ``end`` its end.

    Raises:
        InvalidArgumentError: It is no time.
    """
    if isinstance(moment, datetime):
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if isinstance(moment, date):
        # Not by the day after it: the last of all days has none.
        return datetime.combine(moment, time(), UTC).timestamp() + DAY * end
    allowed = "a date, a datetime, or seconds since the epoch"
    check_real("until" if end else "since", moment, allowed)
    try:
        return float(moment)
    except OverflowError:
        raise InvalidArgumentError("until" if end else "since", moment, allowed) from None


def day_of(moment: float) -> date:
    """Return the UTC day of a time, or the nearest one that there is."""
    try:
        return datetime.fromtimestamp(moment, UTC).date()
    except (ValueError, OverflowError, OSError):
        return date.max if moment > 0 else date.min


def in_period(moment: float | None, filters: Filters) -> bool:
    """Whether a time is in the period that is asked for; no time is in a period with a beginning or an end."""
    since, until = filters.get("since"), filters.get("until")
    if since is None and until is None:
        return True
    begins = since is None or (moment is not None and moment >= seconds(since))
    return begins and (until is None or (moment is not None and moment < seconds(until, end=True)))


def user_of(filters: Filters) -> str | None:
    """Return the user that is asked for, as a context has it."""
    user = filters.get("user")
    return None if user is None else ContextKey(user, "").user_id


def chat_of(filters: Filters) -> str | None:
    """Return the chat that is asked for, as a context has it."""
    chat = filters.get("chat")
    return None if chat is None else ContextKey("", chat).chat_id


def whose(view: sa.FromClause, filters: Filters) -> list[sa.ColumnElement[bool]]:
    """Return the conditions for the user and the chat.

    Raises:
        InvalidIdError: One of them is no id that a context can have.
    """
    asked = {"user_id": user_of(filters), "chat_id": chat_of(filters)}
    return [view.c[name] == value for name, value in asked.items() if value is not None and name in view.c]


def when(view: sa.FromClause, filters: Filters, first: str | None, last: str | None) -> list[sa.ColumnElement[bool]]:
    """Return the conditions for the time.

    Args:
        view: What is asked.
        filters: The period, if any.
        first: The column that must be before its end; its day, which has the index, is in ``day``.
        last: The column that must not be before its beginning. If both are the same, or None, ``day`` says it too.
    """
    found: list[sa.ColumnElement[bool]] = []
    by_day = first == last and "day" in view.c
    if (since := filters.get("since")) is not None:
        begin = seconds(since)
        found += [view.c.day >= day_of(begin)] if by_day else []
        found += [view.c[last] >= begin] if last else []
    if (until := filters.get("until")) is not None:
        end = seconds(until, end=True)
        # A period that ends with a day has nothing of the next one.
        last_day = day_of(end - 1 if end % DAY == 0 else end)
        found += [view.c.day <= last_day] if "day" in view.c else []
        found += [view.c[first] < end] if first else []
    return found


def beyond(order: Sequence[Order], after: Any) -> sa.ColumnElement[bool]:
    """Return the condition for the rows that come after one that has been seen."""
    column, name, descending = order[0]
    value = getattr(after, name)
    rest = beyond(order[1:], after) if len(order) > 1 else sa.false()
    if value is None:
        return sa.and_(column.is_(None), rest)
    further = column < value if descending else column > value
    return sa.or_(further, column.is_(None), sa.and_(column == value, rest))


def page(statement: sa.Select[Any], order: Sequence[Order], after: Any, limit: int) -> sa.Select[Any]:
    """Return the statement for a page of at most ``limit`` rows.

    Raises:
        InvalidArgumentError: The limit is not a number, 0 or more, or ``after`` is no row of the report.
    """
    check_number("limit", limit, 0)
    if after is not None:
        if not all(hasattr(after, by.name) for by in order):
            raise InvalidArgumentError("after", after, "the last row of the page before")
        statement = statement.where(beyond(order, after))
    ways = [by.column.desc() if by.descending else by.column.asc() for by in order]
    return statement.order_by(*(way.nulls_last() for way in ways)).limit(limit)


def columns_of(kind: type[Any], view: sa.FromClause) -> list[sa.ColumnElement[Any]]:
    """Return the columns that are a row's fields."""
    return [view.c[field.name] for field in fields(kind)]


def typed(kind: type[T], found: Sequence[AnyRow]) -> list[T]:
    """Return rows as what they are; flags come from the database as 0 and 1."""
    flags = [field.type == "bool" for field in fields(kind)]  # type: ignore[arg-type]  # every row is a dataclass
    if not any(flags):
        return [kind(*row) for row in found]
    return [kind(*(bool(value) if flag else value for value, flag in zip(row, flags, strict=True))) for row in found]
