"""The shapes of a page's charts, in percent of the chart's width and height."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import accumulate
from math import isfinite
from typing import Final, NamedTuple

# As many bars as can be distinguished on a phone.
MAX_BARS: Final = 60
MAX_SERIES: Final = 6
OTHERS: Final = "others"


class Bar(NamedTuple):
    """A part of a stacked bar, with its label."""

    x: float
    y: float
    width: float
    height: float
    series: int
    label: str


class Chart(NamedTuple):
    """Bars or a line over time. ``top`` is the value at the upper edge; ``series`` has a name for each color."""

    bars: Sequence[Bar]
    line: str
    top: float
    first: str
    last: str
    series: Sequence[str]


# The value of each series at a time, which is a day or seconds since the epoch.
Points = Mapping[tuple[date | float, str], float]


def stacked(points: Points) -> Chart | None:
    """Return stacked bars over time, with the largest series at the bottom; None if all values are 0."""
    series = _largest(points)
    slots = _Slots({at for at, _ in points})
    sums: dict[tuple[int, int], float] = defaultdict(float)
    for (at, name), value in points.items():
        sums[slots.index(at), series.index(name) if name in series else len(series) - 1] += value
    totals: dict[int, float] = defaultdict(float)
    for (slot, _), value in sums.items():
        totals[slot] += value
    top = max(totals.values(), default=0)
    if not top:
        return None
    bars, width, below = [], 100 / slots.count, defaultdict[int, float](float)
    for slot, number in sorted(sums):
        value = sums[slot, number]
        height = 100 * value / top
        below[slot] += height
        label = f"{slots.label(slot)}: {value:,.0f} {series[number]}"
        bars.append(Bar(slot * width + width * 0.08, 100 - below[slot], width * 0.84, height, number, label))
    return Chart(bars, "", top, slots.label(0), slots.label(slots.count - 1), series)


def growth(points: Points) -> Chart | None:
    """Return the running total over time as a line; None if it is 0."""
    slots = _Slots({at for at, _ in points})
    added = [0.0] * slots.count
    for (at, _), value in points.items():
        added[slots.index(at)] += value
    if not (total := sum(added)):
        return None
    width, corners = 100 / slots.count, [(0.0, 100.0)]
    for slot, height in enumerate(accumulate(added)):
        corners += [(slot * width, corners[-1][1]), ((slot + 1) * width, 100 - 100 * height / total)]
    line = " ".join(f"{x:.3f},{y:.3f}" for x, y in [*corners, (100.0, 100.0)])
    return Chart((), line, total, slots.label(0), slots.label(slots.count - 1), ())


def shares(values: Iterable[tuple[str, float]]) -> list[tuple[str, float, float]]:
    """Return each name with its value, and that value in percent of the largest one; the largest first."""
    ordered = sorted(values, key=lambda item: (-item[1] if item[1] == item[1] else 0.0, item[0]))
    most = max((value for _, value in ordered if isfinite(value)), default=0) or 1
    return [(name, value, 100 * value / most if isfinite(value) else 100.0) for name, value in ordered]


def _largest(points: Points) -> list[str]:
    totals: dict[str, float] = defaultdict(float)
    for (_, name), value in points.items():
        totals[name] += value
    names = sorted(totals, key=lambda name: (-totals[name], name))
    return names if len(names) <= MAX_SERIES else [*names[: MAX_SERIES - 1], OTHERS]


class _Slots:
    """Equal intervals from the first to the last point, as many as can be shown."""

    def __init__(self, times: set[date | float]) -> None:
        numbers = [self._number(at) for at in times] or [0.0]
        self._days = any(isinstance(at, date) for at in times)
        self._start, span = min(numbers), max(numbers) - min(numbers)
        self._width = float(-(-(span + 1) // MAX_BARS)) if self._days else max(span / MAX_BARS, 1e-3)
        self.count = min(int(span / self._width) + 1, MAX_BARS)

    @staticmethod
    def _number(at: date | float) -> float:
        return float(at.toordinal()) if isinstance(at, date) else float(at)

    def index(self, at: date | float) -> int:
        """Return the index of the slot that contains a point."""
        return min(int((self._number(at) - self._start) / self._width), self.count - 1)

    def label(self, slot: int) -> str:
        """Return the label of a slot."""
        begin = self._start + slot * self._width
        if not self._days:
            return datetime.fromtimestamp(begin, UTC).strftime("%Y-%m-%d %H:%M:%S")
        first = date.fromordinal(int(begin))
        last = date.fromordinal(min(int(begin + self._width) - 1, date.max.toordinal()))
        return f"{first}" if self._width == 1 else f"{first} to {last}"
