"""Days, times and time spans as people write them, in a command as in an address."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Final

from taskctx_sql import clock
from taskctx_sql.errors import InvalidArgumentError

_SPAN: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw])", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def read_span(text: str) -> float | None:
    """Return the seconds of a time span such as 90s, 12h, 1.5d or 4w, or None if the text is none."""
    found = _SPAN.fullmatch(text)
    return None if found is None else float(found[1]) * _SECONDS[found[2]]


def read_moment(name: str, text: str) -> date | datetime:
    """Return a day as a date, and a time, or the time a span ago, as a datetime; one without a zone is UTC.

    Args:
        name: What the text is given for, as an error names it.
        text: 2026-01-31, 2026-01-31T08:00, or a time span such as 24h or 7d.

    Raises:
        InvalidArgumentError: The text is none of these.
    """
    try:
        if (span := read_span(text)) is not None:
            return datetime.fromtimestamp(clock.now(), UTC) - timedelta(seconds=span)
        if len(text) <= 10:
            return date.fromisoformat(text)
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        allowed = "a day (2026-01-31), a time (2026-01-31T08:00) or a time span ago (24h, 7d), in UTC"
        raise InvalidArgumentError(name, text, allowed) from None
