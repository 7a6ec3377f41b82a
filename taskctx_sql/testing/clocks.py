"""A clock that stands still until a test moves it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

# The beginning of 2026, UTC.
START: Final = 1_767_225_600.0


class Clock:
    """The time as the library sees it during a test. It stands still, and is read by calling it.

    Attributes:
        now: Seconds since the epoch, UTC.
    """

    def __init__(self, now: float = START) -> None:
        """Begin at a time in seconds since the epoch; by default at the beginning of 2026."""
        self.now: float = now

    def __call__(self) -> float:
        """Return `now`."""
        return self.now

    def set(self, moment: float | datetime) -> None:
        """Set the time, forward or back.

        Args:
            moment: Seconds since the epoch, or a datetime; one without a time zone is in UTC.
        """
        if isinstance(moment, datetime):
            moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        self.now = float(moment)

    def advance(self, span: float | timedelta) -> None:
        """Move the time on by a number of seconds, or by a timedelta."""
        self.now += span.total_seconds() if isinstance(span, timedelta) else span

    def __repr__(self) -> str:
        return f"Clock({self.now!r})"
