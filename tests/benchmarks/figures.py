"""What was measured, and how ours compares with the others."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

OURS = "taskctx_sql"
LIMIT = "limit"
HOP = "limit + a hop"
PEER = "openai-agents"

# What a ratio is of. A stall is compared by its time, but what is asked of it is a number of seconds at worst.
By = Literal["time", "rate", "size", "stall"]

# What is asked of us: beside which side, and on which engine.
Asked = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Figure:
    """One side at one workload: all its measurements, in seconds or bytes, each of so many rows, saves or calls."""

    engine: str
    workload: str
    side: str
    values: Sequence[float]
    pieces: int = 1
    unit: Literal["seconds", "bytes"] = "seconds"

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def p99(self) -> float:
        return sorted(self.values)[int(len(self.values) * 0.99)]

    @property
    def worst(self) -> float:
        return max(self.values)

    @property
    def rate(self) -> float | None:
        """How many pieces a second."""
        return self.pieces / self.median if self.unit == "seconds" else None

    def as_json(self) -> dict[str, Any]:
        return {
            "engine": self.engine,
            "workload": self.workload,
            "side": self.side,
            "unit": self.unit,
            "measurements": len(self.values),
            "median": self.median,
            "p99": self.p99,
            "worst": self.worst,
            "pieces": self.pieces,
            "pieces_a_second": self.rate,
        }


@dataclass(frozen=True)
class Comparison:
    """Ours beside another's, and what is asked of it: a rate to reach, or else a time or size to stay below."""

    ours: Figure
    other: Figure
    by: By
    asked: float | None = None
    other_name: str = ""

    @property
    def beside(self) -> str:
        return self.other_name or self.other.side

    @property
    def ratio(self) -> float:
        ratio = self.ours.median / self.other.median
        return 1 / ratio if self.by == "rate" else ratio

    @property
    def met(self) -> bool | None:
        if self.asked is None:
            return None
        if self.by == "stall":
            return self.ours.worst <= self.asked
        return round(self.ratio, 2) >= self.asked if self.by == "rate" else round(self.ratio, 2) <= self.asked

    def as_json(self) -> dict[str, Any]:
        return {
            "engine": self.ours.engine,
            "workload": self.ours.workload,
            "beside": self.beside,
            "by": self.by,
            "ratio": self.ratio,
            "asked": self.asked,
            "met": self.met,
        }


class Results:
    """All figures and comparisons of a run."""

    def __init__(self) -> None:
        self.figures: list[Figure] = []
        self.comparisons: list[Comparison] = []

    def add(self, figures: Sequence[Figure], by: By, asked: Asked) -> None:
        """Take one workload's figures, and compare ours with each of the others: with a peer, by how often as fast."""
        self.figures += figures
        for ours in figures:
            if ours.side == OURS:
                for other in figures:
                    if other.side != OURS:
                        ratio_of: By = "rate" if other.side == PEER else by
                        wanted = asked.get(other.side, {}).get(ours.engine)
                        self.comparisons.append(Comparison(ours, other, ratio_of, wanted))

    def compare_with_own(self, engine: str, workload: str, other: str, name: str, by: By, asked: float) -> None:
        """Compare our figures at one workload with our own at another, if both were measured."""
        own = {figure.workload: figure for figure in self.figures if (figure.engine, figure.side) == (engine, OURS)}
        if workload in own and other in own:
            self.comparisons.append(Comparison(own[workload], own[other], by, asked, name))
