"""Decide which updates to keep, by the reference's rules. Pure functions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from taskctx_sql import codec
from taskctx_sql.limits import check_real
from taskctx_sql.model import ContextUpdate

Reason = Literal["duplicate", "over size"]

# The characters of a value in a printed plan.
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Dropped:
    """An update that an optimize removes.

    Attributes:
        place: Its index in the history.
        update: The update.
        size: The characters of ``str(data)``.
        reason: "duplicate": a newer one has the same type and data; "over size": it does not fit.
    """

    place: int
    update: ContextUpdate
    size: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class OptimizePlan:
    """What an optimize would do. It is true if anything would be removed, and readable when printed.

    Attributes:
        max_size: How many characters may stay.
        size: How many characters would stay.
        kept: The updates that would stay, oldest first.
        dropped: Those that would be removed, oldest first.
    """

    max_size: int
    size: int
    kept: list[ContextUpdate]
    dropped: list[Dropped]

    def __bool__(self) -> bool:
        """Whether anything would be removed."""
        return bool(self.dropped)

    def __str__(self) -> str:
        reasons = Counter(dropped.reason for dropped in self.dropped)
        why = " and ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items())) or "nothing"
        lines = [f"{len(self.kept):,} updates stay, {self.size:,} of {self.max_size:,} characters; {why} would go"]
        for dropped in self.dropped:
            text = " ".join(_text(dropped.update.data).split())
            shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
            kind = _text(dropped.update.update_type, format)
            lines.append(f"  {dropped.place:>6}  {dropped.reason:9}  {dropped.size:>8,}  {kind}: {shown}")
        return "\n".join(lines)


def plan(history: Sequence[ContextUpdate], max_size: int) -> OptimizePlan:
    """Return what the reference's ``optimize_context`` keeps and removes.

    From the newest update to the oldest, each is kept that has no newer duplicate (equal type and data) and still fits
    into ``max_size`` characters of ``str(data)`` in all. One that is too large is skipped; older ones may still fit.
    """
    check_real("max_size", max_size, "a number of characters")
    seen: set[str] = set()
    kept: list[ContextUpdate] = []
    dropped: list[Dropped] = []
    size = 0
    for place in range(len(history) - 1, -1, -1):
        update = history[place]
        # As in the original: str() may return another text for an enum than format().
        key = f"{_text(update.update_type, format)}:{_data_key(update.data)}"
        data_size = len(_text(update.data))
        if key in seen:
            dropped.append(Dropped(place, update, data_size, "duplicate"))
        elif size + data_size <= max_size:
            kept.append(update)
            size += data_size
        else:
            dropped.append(Dropped(place, update, data_size, "over size"))
        seen.add(key)
    return OptimizePlan(max_size, size, kept[::-1], dropped[::-1])


def updates_until(history: Iterable[ContextUpdate], timestamp: float) -> list[ContextUpdate]:
    """Return the updates up to ``timestamp`` (seconds since the epoch, UTC), and those without a valid time."""
    check_real("timestamp", timestamp, "a time in seconds since the epoch")
    return [one for one in history if not isinstance(one.timestamp, int | float) or not one.timestamp > timestamp]


def _data_key(data: Any) -> str:
    try:
        return json.dumps(data, sort_keys=True)
    except Exception:
        # The original raised here. The prefix distinguishes it from any JSON text.
        return f"!{codec.encode(data, warn=False)}"


def _text(value: Any, to_text: Callable[[Any], str] = str) -> str:
    try:
        return to_text(value)
    except Exception:
        # A value without a text counts with its stored form.
        return codec.encode(value, warn=False)
