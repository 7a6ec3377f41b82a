"""Scales and formats: numbers, sizes, costs, times and durations for people, and axes that fit what they show."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

# The steps of a time axis in seconds, from a millisecond to ten years, each a round number of its unit.
_STEPS: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200),
    *(86_400, 2 * 86_400, 7 * 86_400, 14 * 86_400, 30 * 86_400, 91 * 86_400, 182 * 86_400, 365 * 86_400),
    *(2 * 365 * 86_400, 5 * 365 * 86_400, 10 * 365 * 86_400),
)
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: its place in percent of the axis, and its label."""

    place: float
    label: str


def when(timestamp: float | None) -> str:
    """Return a time in UTC to the second; nothing for None."""
    try:
        return "" if timestamp is None else datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return str(timestamp)


def iso(timestamp: float | None) -> str:
    """Return a time as HTML's ``datetime`` attribute has it; nothing for a time that is in no calendar."""
    try:
        return "" if timestamp is None else datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return ""


def ago(timestamp: float | None, at: float) -> str:
    """Return how long before ``at`` a time was: "3 min ago"."""
    if timestamp is None:
        return ""
    return "now" if at - timestamp < 1 else f"{duration(at - timestamp)} ago"


def number(value: float | None) -> str:
    """Return a number in full, with separators; nothing for None."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.4g}"


def counted_up_to(count: int | None, most: int) -> str:
    """Return a number of rows that were counted up to ``most``; "..." while they are being counted."""
    if count is None:
        return "..."
    return f"{count:,} or more" if count >= most else f"{count:,}"


def compact(value: float | None) -> str:
    """Return a number with at most four digits: 12.3 k, 4.56 M."""
    if value is None:
        return ""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            part = value / (1e3 if letter == "k" else size)
            return f"{part:,.{0 if part >= 1000 else 1 if part >= 100 or letter == 'k' else 2}f} {letter}"
    return number(value)


def cost(value: float | None) -> str:
    """Return a cost with two digits, or as many as show the first two that are not 0."""
    if value is None:
        return ""
    if not math.isfinite(value) or value == 0 or abs(value) >= 0.1:
        return f"{value:,.2f}"
    return f"{value:.{min(1 - math.floor(math.log10(abs(value))), 9)}f}"


def size(value: float | None) -> str:
    """Return a number of bytes in the unit that fits."""
    if value is None:
        return ""
    units = iter(("B", "kB", "MB", "GB", "TB"))
    unit = next(units)
    while value >= 1000 and unit != "TB":
        value, unit = value / 1000, next(units)
    return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"


def duration(value: float | None) -> str:
    """Return seconds in the unit that fits, from microseconds to days; nothing for None."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0 s"
    sign, value = "-" if value < 0 else "", abs(value)
    if value < 1:
        return f"{sign}{value * 1000:.3g} ms" if value >= 0.0001 else f"{sign}{value * 1e6:.3g} µs"
    if value < _MINUTE:
        return f"{sign}{value:.3g} s"
    whole = round(value)
    for unit, (large, small) in ((_HOUR, ("min", "s")), (_DAY, ("h", "min")), (math.inf, ("d", "h"))):
        part = {"min": _MINUTE, "h": _HOUR, "d": _DAY}[large]
        if value < unit:
            rest = whole % part // {"s": 1, "min": _MINUTE, "h": _HOUR}[small]
            return f"{sign}{whole // part:,} {large}" + (f" {rest} {small}" if rest else "")
    raise AssertionError("the last unit has no end")


def share(part: float, whole: float) -> str:
    """Return a part in percent of a whole."""
    return "" if not whole else f"{100 * part / whole:.3g} %"


def nice_top(largest: float) -> float:
    """Return the end of an axis from 0: the next number above that is a round one."""
    if not (math.isfinite(largest) and largest > 0):
        return 1.0
    power = 10.0 ** math.floor(math.log10(largest))
    return next((step * power for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * power >= largest), 10 * power)


def time_ticks(begin: float, end: float, count: int = 6) -> list[Tick]:
    """Return marks at round times of an axis from one time to another, in seconds since the epoch: about ``count``."""
    span = max(end - begin, 1e-9)
    step = _step(span, count)
    first = math.ceil(begin / step) * step
    places = (first + place * step for place in range(int(span / step) + 2))
    return [Tick(100 * (at - begin) / span, time_label(at, step)) for at in places if at <= end]


def duration_ticks(span: float, count: int = 6) -> list[Tick]:
    """Return marks at round durations of an axis from 0 to ``span`` seconds: about ``count``."""
    span = max(span, 1e-9)
    step = _step(span, count)
    return [
        Tick(100 * place * step / span, duration(place * step) if place else "0")
        for place in range(int(span / step) + 1)
    ]


def day_ticks(days: list[date], count: int = 6) -> list[Tick]:
    """Return labels for some of the days that an axis has, each at the middle of its place."""
    every = max(1, -(-len(days) // count))
    return [
        Tick(100 * (place + 0.5) / len(days), f"{day.day} {day:%b}")
        for place, day in enumerate(days)
        if place % every == 0
    ]


def _step(span: float, count: int) -> float:
    place = bisect_left(_STEPS, span / count)
    return _STEPS[place] if place < len(_STEPS) else nice_top(span / count)


def time_label(at: float, step: float) -> str:
    """Return the label of a time on an axis whose marks are so many seconds apart."""
    try:
        moment = datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):
        return number(at)
    if step < 1:
        return moment.strftime("%H:%M:%S") + f".{moment.microsecond // 1000:03}"
    if step < _MINUTE:
        return moment.strftime("%H:%M:%S")
    if step < _DAY and (moment.hour or moment.minute):
        return moment.strftime("%H:%M")
    return f"{moment.day} {moment:%b}" if step < 91 * _DAY else moment.strftime("%b %Y")
