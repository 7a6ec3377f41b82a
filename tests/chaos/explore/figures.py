"""What an exploration counted, as a table and as JSON."""

from __future__ import annotations

import resource
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from rich.table import Table

# What is wrong, by how the line about it begins or by what it says; the first that fits.
KINDS_OF_PROBLEMS: Final = (
    ("hangs", ("hangs", "closing hangs")),
    ("leaks", ("left behind", "not given back")),
    ("doubled", ("doubled", "there twice", "is done")),
    ("torn", ("torn", "in part")),
    ("lost", ("lost", "which the store has not", "memory has what the store has not")),
)
# Of so many failures the text is kept: an hour may find many of one kind.
KEPT: Final = 100


def kind_of(problem: str) -> str:
    """Return which column of the figures a problem belongs to."""
    for kind, words in KINDS_OF_PROBLEMS:
        if any(word in problem for word in words):
            return kind
    return "other"


@dataclass
class Found:
    """What an exploration found.

    Attributes:
        programs: How many programs ran.
        points: How many points were explored, by what was done there.
        acknowledged: How many additions a save acknowledged.
        problems: What was wrong, by its kind.
        failures: For each of the first failures its seed, number, and what it says.
        failed: How many runs failed.
        longest: Seconds that the longest call took.
        slowest: Seconds beyond those allowed for which the machine, and not the library, kept a call waiting.
    """

    programs: int = 0
    points: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, int, str]] = field(default_factory=list)
    failed: int = 0
    longest: float = 0.0
    slowest: float = 0.0

    def fail(self, seed: int, number: int, what: str, problems: list[str]) -> None:
        """Count a run that failed."""
        self.failed += 1
        self.problems.update(map(kind_of, problems))
        if len(self.failures) < KEPT:
            self.failures.append((seed, number, what))

    def add(self, other: Found) -> None:
        """Count another exploration's, too."""
        self.programs += other.programs
        self.points += other.points
        self.acknowledged += other.acknowledged
        self.problems += other.problems
        self.failures += other.failures[: KEPT - len(self.failures)]
        self.failed += other.failed
        self.longest, self.slowest = max(self.longest, other.longest), max(self.slowest, other.slowest)


def row(kind: str, found: Found, seconds: float) -> dict[str, Any]:
    """Return the figures of a kind of store."""
    columns = [name for name, _ in KINDS_OF_PROBLEMS] + ["other"]
    return {
        "store": kind,
        "minutes": round(seconds / 60, 1),
        "programs": found.programs,
        "points": found.points.total(),
        "acknowledged": found.acknowledged,
        **{name: found.problems[name] for name in sorted(columns, key=_ORDER.index)},
        "longest call (s)": round(found.longest, 2),
        "late by the machine (s)": round(found.slowest, 2),
        "memory (MB)": memory(),
        "verdict": "bad" if found.failed else "ok",
    }


_ORDER: Final = ("lost", "doubled", "torn", "hangs", "leaks", "other")


def memory() -> int:
    """The most memory that this process has had, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak // (1024 * 1024 if sys.platform == "darwin" else 1024))


def table(rows: list[dict[str, Any]]) -> Table:
    """Return the rows as a table."""
    shown = Table(box=None, padding=(0, 2, 0, 0))
    for column in rows[0]:
        shown.add_column(column, justify="left" if column in ("store", "verdict") else "right")
    for one in rows:
        shown.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in one.values()))
    return shown
