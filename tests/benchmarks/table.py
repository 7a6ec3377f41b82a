"""The figures as a table: a row is ours beside another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.table import Table

from tests.benchmarks.figures import Comparison, Figure

LEFT = ("engine", "workload", "beside")
RIGHT = ("median", "p99", "ours", "p99", "ours/s", "ratio", "asked", "met")


def table(comparisons: Sequence[Comparison]) -> Table:
    shown = Table(box=None, padding=(0, 2, 0, 0))
    for column in LEFT:
        shown.add_column(column, no_wrap=True)
    for column in RIGHT:
        shown.add_column(column, justify="right", no_wrap=True)
    for _, of_engine in groupby(comparisons, lambda comparison: comparison.ours.engine):
        for comparison in of_engine:
            shown.add_row(*_cells(comparison))
        shown.add_row()
    return shown


def _cells(comparison: Comparison) -> list[str]:
    ours, other = comparison.ours, comparison.other
    return [
        *(ours.engine, ours.workload, comparison.beside),
        *_amounts(other),
        *_amounts(ours),
        "" if ours.rate is None or comparison.by == "stall" else f"{ours.rate:,.0f}",
        f"{comparison.ratio:,.2f} x {'time' if comparison.by == 'stall' else comparison.by}",
        _asked(comparison),
        {None: "", True: "yes", False: "no"}[comparison.met],
    ]


def _asked(comparison: Comparison) -> str:
    asked = comparison.asked
    if asked is None:
        return ""
    if comparison.by == "stall":
        return f"<= {asked * 1e3:g} ms"
    return f"{'>=' if comparison.by == 'rate' else '<='} {asked:g} x"


def _amounts(figure: Figure) -> tuple[str, str]:
    if figure.unit == "bytes":
        return f"{figure.median / 1e6:.1f} MB", ""
    return _seconds(figure.median), _seconds(figure.p99)


def _seconds(value: float) -> str:
    for unit, size in (("us", 1e-6), ("ms", 1e-3)):
        if value < 999.5 * size:
            return f"{value / size:.{1 if value < 99.95 * size else 0}f} {unit}"
    return f"{value:.2f} s"
