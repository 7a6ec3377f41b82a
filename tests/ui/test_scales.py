"""Formats and axes, from microseconds to years."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from taskctx_sql.pages import scales

AT = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "value", "shown"),
    [
        *((scales.duration, value, text) for value, text in (
            (None, ""), (0.0000021, "2.1 µs"), (0.0123, "12.3 ms"), (1, "1 s"), (59.96, "60 s"), (83, "1 min 23 s"),
            (3600, "1 h"), (3725, "1 h 2 min"), (90_000, "1 d 1 h"), (-5, "-5 s"), (math.inf, "inf"),
        )),
        *((scales.cost, value, text) for value, text in (
            (0.0, "0.00"), (0.00039, "0.00039"), (0.15, "0.15"), (1234.5, "1,234.50"), (1e-12, "0.000000000"),
        )),
        *((scales.compact, value, text) for value, text in (
            (9_999, "9,999"), (12_345, "12.3 k"), (33_360_000, "33.36 M"), (1.5e9, "1.50 G"), (None, ""),
        )),
        *((scales.size, value, text) for value, text in ((999, "999 B"), (1_234_000, "1.2 MB"), (None, ""))),
        *((scales.when, value, text) for value, text in ((AT, "2026-11-30 12:00:00"), (1e300, "1e+300"), (None, ""))),
        *((scales.iso, value, text) for value, text in ((AT, "2026-11-30T12:00:00Z"), (math.nan, ""))),
        *((scales.nice_top, value, top) for value, top in ((0, 1), (7, 8), (23, 25), (0.21, 0.25), (math.inf, 1))),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)  # fmt: skip
def test_values_are_shown_in_the_unit_that_fits(text: Any, value: float | None, shown: str | float) -> None:
    assert text(value) == shown


@pytest.mark.parametrize("span", [0.002, 0.5, 3, 45, 600, 7200, 86_400, 30 * 86_400, 400 * 86_400, 30 * 365 * 86_400])
def test_an_axis_has_a_few_marks_at_round_places(span: float) -> None:
    begin = AT + 4000
    for ticks in (scales.time_ticks(begin, begin + span), scales.duration_ticks(span)):
        assert 2 <= len(ticks) <= 8
        assert all(0 <= tick.place <= 100.001 for tick in ticks)
        assert len({tick.label for tick in ticks}) == len(ticks)
        steps = [after.place - before.place for before, after in pairwise(ticks)]
        assert max(steps) - min(steps) < 0.1


def test_an_axis_without_length_is_no_error() -> None:
    assert scales.time_ticks(AT, AT)
    assert scales.duration_ticks(0)
    assert scales.day_ticks([]) == []
