"""Days, times and time spans as people write them."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from taskctx_sql import clock
from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.model.moments import read_moment, read_span

NOW = datetime(2026, 2, 1, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("90s", 90), ("2m", 120), ("1.5h", 5_400), ("7d", 604_800), ("4w", 2_419_200)],
)
def test_a_span_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert read_span(text) == seconds


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31", date(2026, 1, 31)),
        ("2026-01-31T08:00", datetime(2026, 1, 31, 8, tzinfo=UTC)),
        ("2026-01-31T08:00+02:00", datetime(2026, 1, 31, 6, tzinfo=UTC)),
        ("24h", datetime(2026, 1, 31, 12, 30, tzinfo=UTC)),
    ],
)
def test_a_moment_is_a_day_a_time_or_a_span_ago(text: str, moment: date, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", NOW.timestamp)
    assert read_moment("since", text) == moment


@pytest.mark.parametrize(
    "text",
    ["", "soon", "7", "-7d", "7 d", "7y", "٣d", "1" * 30 + "w", "999999999w", "2026-13-01", "0001-01-01T00:00+14:00"],
)
def test_what_is_no_moment_is_named(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"since=.* is not allowed: pass a day"):
        read_moment("since", text)
