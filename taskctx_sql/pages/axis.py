"""A time axis to scale, from milliseconds to days: long times in which nothing happened are cut out of it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Final, NamedTuple

from taskctx_sql.pages.scales import Tick, duration, duration_ticks, time_label, time_ticks, when

# Time outside of runs is cut if it is longer than this part of the time in which something happened; within runs, where
# it may mean something, only if it is so many times as long.
_OUTSIDE: Final = 0.2
_WITHIN: Final = 5.0
# The widths of a cut and of all of them, in percent of the axis.
_CUT_WIDTH: Final = 3.0
_CUTS_WIDTH: Final = 30.0
# Labels of two stretches stand at least so far apart, in percent of the axis.
_APART: Final = 16.0
# What takes less is drawn as if it took so many seconds.
_SHORTEST: Final = 1e-6
# The labels of times that are within a minute have milliseconds.
_MILLISECOND: Final = 0.001


@dataclass(frozen=True, slots=True)
class Gap:
    """A cut: its place and width in percent of the axis, and what is left out, as text."""

    place: float
    width: float
    text: str


class _Piece(NamedTuple):
    """A part of the axis: its times, and the places of these."""

    begin: float
    end: float
    first: float
    last: float
    is_gap: bool


# A beginning, an end or None, and whether it is a run.
Interval = tuple[float | None, float | None, bool]


class Axis:
    """Gives the place of a time, in percent of the axis."""

    def __init__(self, intervals: Iterable[Interval], until: float | None = None) -> None:
        """Make the axis of what happened; what has not ended is drawn to the last time that is known, or ``until``."""
        given = [(one, other, is_run) for one, other, is_run in intervals if one is not None and isfinite(one)]
        times = [time for one, other, _ in given for time in (one, other) if time is not None and isfinite(time)]
        if until is not None and given and any(other is None for _, other, _ in given):
            times.append(until)
        self.begin: Final = min(times, default=0.0)
        self.end: Final = max(times, default=0.0)
        work: list[tuple[float, float]] = []
        runs: list[tuple[float, float]] = []
        for one, other, is_run in given:
            end = max(one, self.end if other is None else other)
            if is_run:
                runs.append((one, end))
                # The beginning and the end of a run are something that happened.
                work += [(one, one), (end, end)]
            else:
                work.append((one, end))
        self._pieces: Final = _pieces(_merged(work), _merged(runs))
        self._begins: Final = [piece.begin for piece in self._pieces]

    @property
    def gaps(self) -> list[Gap]:
        """Where time is cut out."""
        return [
            Gap(piece.first, piece.last - piece.first, duration(piece.end - piece.begin))
            for piece in self._pieces
            if piece.is_gap
        ]

    def place(self, time: float) -> float:
        """Return the place of a time; times outside of the axis are at its ends."""
        if not self._pieces:
            return 0.0
        piece = self._pieces[max(bisect_right(self._begins, time) - 1, 0)]
        part = (min(max(time, piece.begin), piece.end) - piece.begin) / max(piece.end - piece.begin, _SHORTEST)
        return piece.first + part * (piece.last - piece.first)

    def ticks(self) -> list[Tick]:
        """Return labels: how much time has passed; or if some is cut, times, with the day where a stretch begins."""
        stretches = [piece for piece in self._pieces if not piece.is_gap]
        if len(stretches) == 1:
            return duration_ticks(self.end - self.begin, 5)
        labels: list[Tick] = []
        for piece in stretches:
            if not labels or piece.first - labels[-1].place >= _APART:
                # Without the year and the seconds, which tell stretches of the same minute apart.
                text = when(piece.begin)[5:16]
                is_again = any(label.label == text for label in labels)
                labels.append(Tick(piece.first, time_label(piece.begin, _MILLISECOND) if is_again else text))
            width = piece.last - piece.first
            for tick in time_ticks(piece.begin, piece.end, max(1, int(width / _APART))) if width > _APART else ():
                place = piece.first + tick.place * width / 100
                if place - labels[-1].place >= _APART and piece.last - place >= _APART / 2:
                    labels.append(Tick(place, tick.label))
        return labels


def _merged(intervals: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for begin, end in sorted(intervals):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def _pieces(work: Sequence[tuple[float, float]], runs: Sequence[tuple[float, float]]) -> list[_Piece]:
    """Return the pieces of the axis of what happened, given the runs that it happened in."""
    if not work:
        return []
    busy = sum(end - begin for begin, end in work) or sum(end - begin for begin, end in runs)
    cuts = [
        (before[1], after[0])
        for before, after in pairwise(work)
        if busy and after[0] - before[1] > busy * (_WITHIN if _is_within(before[1], after[0], runs) else _OUTSIDE)
    ]
    begin, end = work[0][0], work[-1][1]
    edges = [begin, *(time for cut in cuts for time in cut), end]
    shown = sum(edges[place + 1] - edges[place] for place in range(0, len(edges), 2))
    cut_width = min(_CUT_WIDTH, _CUTS_WIDTH / max(len(cuts), 1))
    scale = (100 - cut_width * len(cuts)) / max(shown, _SHORTEST)
    pieces: list[_Piece] = []
    place = 0.0
    for number, (one, other) in enumerate(pairwise(edges)):
        is_gap = number % 2 == 1
        width = cut_width if is_gap else (other - one) * scale
        pieces.append(_Piece(one, other, place, place + width, is_gap))
        place += width
    return pieces


def _is_within(begin: float, end: float, runs: Sequence[tuple[float, float]]) -> bool:
    return any(run[0] <= begin and end <= run[1] for run in runs)
