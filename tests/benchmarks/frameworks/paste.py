"""The ratios as a table in Markdown, to be pasted into the docs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from tests.benchmarks.figures import Comparison, Figure

_WORKS = {"append": "append", "last": "last 20", "latest": "the latest", "all": "all", "in flight": "in flight"}


def markdown(comparisons: Sequence[Comparison], rounds: int) -> str:
    """Return a row for each framework's own store: how many times faster ours is, and in the worst round."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for comparison in comparisons:
        cells = rows.setdefault((comparison.ours.engine, comparison.beside), {})
        cells[_work(comparison.ours.workload)] = f"{_short(comparison.ratio)} x ({_short(worst(comparison, rounds))})"
    lines = [
        f"| framework | beside | {' | '.join(_WORKS.values())} |",
        f"| --- | --- |{' --- |' * len(_WORKS)}",
    ]
    for (where, beside), cells in rows.items():
        lines.append(f"| {where} | {beside} | {' | '.join(cells.get(work, '') for work in _WORKS)} |")
    return "\n".join(lines)


def worst(comparison: Comparison, rounds: int) -> float:
    """Return the lowest ratio of a round, in which both sides had their turn."""
    pairs = zip(_by_round(comparison.ours, rounds), _by_round(comparison.other, rounds), strict=True)
    return min(theirs / ours for ours, theirs in pairs)


def _by_round(figure: Figure, rounds: int) -> list[float]:
    size = len(figure.values) // rounds
    return [statistics.median(figure.values[start * size : (start + 1) * size]) for start in range(rounds)]


def _work(workload: str) -> str:
    if "in flight" in workload:
        return "in flight"
    if "latest" in workload:
        return "latest"
    return workload.partition(" ")[0]


def _short(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 9.95 else f"{ratio:.1f}" if ratio >= 1.95 else f"{ratio:.2f}"
