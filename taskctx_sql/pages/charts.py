"""The shapes of charts, in the units of their drawing, which the templates draw as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from taskctx_sql.pages import scales

# The size of a drawing; it is stretched to the width of its place.
WIDTH: Final = 600.0
HEIGHT: Final = 120.0


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a day: where it is drawn, what it stands for, and the address of what it counts."""

    x: float
    y: float
    width: float
    height: float
    day: date
    value: float
    text: str
    href: str | None


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars over days.

    Attributes:
        title: What is shown.
        total: The sum of all bars, as text.
        bars: One for each day, those without a value included.
        top: The value at the upper edge, as text.
        ticks: Labels of the axis of days.
        color: The class of the bars.
    """

    title: str
    total: str
    bars: Sequence[Bar]
    top: str
    ticks: Sequence[scales.Tick]
    color: str

    @property
    def is_empty(self) -> bool:
        """Whether no day has a value."""
        return not any(bar.value for bar in self.bars)


def by_day(
    title: str,
    values: Mapping[date, float],
    days: Sequence[date],
    text: Callable[[float], str],
    href: Callable[[date], str | None],
    color: str = "accent",
) -> Chart:
    """Return the chart of a value for each day; days that have none are in it with 0."""
    counted = [values.get(day, 0.0) for day in days]
    known = [value if math.isfinite(value) else 0.0 for value in counted]
    top = scales.nice_top(max(known, default=0))
    width = WIDTH / max(len(days), 1)
    gap = min(width * 0.2, 3.0)
    bars = []
    for place, (day, value, shown) in enumerate(zip(days, counted, known, strict=True)):
        # What is more than nothing can be seen.
        height = max(HEIGHT * shown / top, 1.5) if shown > 0 else 0.0
        bars.append(
            Bar(
                x=round(place * width + gap / 2, 2),
                y=round(HEIGHT - height, 2),
                width=round(width - gap, 2),
                height=round(height, 2),
                day=day,
                value=value,
                text=text(value),
                href=href(day),
            )
        )
    return Chart(title, text(sum(known)), bars, text(top), scales.day_ticks(list(days)), color)
