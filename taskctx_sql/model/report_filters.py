"""Which rows a report has: whose, of which period, and how many."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Final, TypedDict

from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.limits import check_real

DAY: Final = 86_400

Moment = date | datetime | float


class Filters(TypedDict, total=False):
    """Which rows of a report.

    Attributes:
        user_id: Only this user's rows; every user's if None.
        chat_id: Only this chat's rows; every chat's if None.
        since: The beginning of the period. A `date` stands for its first moment in UTC, a `datetime` without a zone
            is UTC, and a number is seconds since the epoch.
        until: The end of the period, exclusive; a `date` stands for the end of that day.
        limit: The largest number of rows; all of them if None. Pass the last row as ``after`` to get the next ones.
        sort: The column to sort by instead of the report's own order, numbers and times from the largest, texts from
            the smallest; the other way round with a minus before the name. Missing values come last, and rows with the
            same value are in the report's order.
    """

    user_id: str | None
    chat_id: str | None
    since: Moment | None
    until: Moment | None
    limit: int | None
    sort: str | None


def seconds(moment: Moment, *, end: bool = False) -> float:
    """Return a moment in seconds since the epoch; for a day its beginning, or with ``end`` its end."""
    if isinstance(moment, datetime):
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if isinstance(moment, date):
        # Not as the beginning of the next day: date.max has none.
        return datetime.combine(moment, time(), UTC).timestamp() + DAY * end
    allowed = "a date, a datetime, or seconds since the epoch"
    check_real("until" if end else "since", moment, allowed)
    try:
        return float(moment)
    except OverflowError:
        raise InvalidArgumentError("until" if end else "since", moment, allowed) from None


def in_period(moment: float | None, filters: Filters) -> bool:
    """Return whether a time is in the period of the filters; None is only in a period without beginning and end."""
    since, until = filters.get("since"), filters.get("until")
    if moment is None:
        return since is None and until is None
    return (since is None or moment >= seconds(since)) and (until is None or moment < seconds(until, end=True))
