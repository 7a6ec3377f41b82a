"""The figures as a table: a row is ours beside another."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from tests.benchmarks.figures import Comparison, Figure

LEFT = ("workload", "beside")
RIGHT = ("theirs", "ours", "ratio", "asked", "met")


def table(comparisons: Sequence[Comparison]) -> Table:
    """What was compared on each engine, or over each kind of connection, under its name."""
    shown = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for column in LEFT:
        shown.add_column(column, no_wrap=True)
    for column in RIGHT:
        shown.add_column(column, justify="right", no_wrap=True)
    by_engine: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        by_engine.setdefault(comparison.ours.engine, []).append(comparison)
    for engine, of_engine in by_engine.items():
        shown.add_row(Text(engine, "bold"))
        for comparison in of_engine:
            shown.add_row(*_cells(comparison))
        shown.add_row()
    return shown


def _cells(comparison: Comparison) -> list[str]:
    return [
        *(f" {comparison.ours.workload}", comparison.beside),
        *(_amount(comparison, comparison.other), _amount(comparison, comparison.ours)),
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


def _amount(comparison: Comparison, figure: Figure) -> str:
    if figure.unit == "bytes":
        return f"{figure.median / 1e6:.1f} MB"
    if comparison.by == "rate" and figure.rate is not None:
        return f"{figure.rate:,.0f} /s"
    return _seconds(figure.median)


def _seconds(value: float) -> str:
    for unit, size in (("us", 1e-6), ("ms", 1e-3)):
        if value < 999.5 * size:
            return f"{value / size:.{1 if value < 99.95 * size else 0}f} {unit}"
    return f"{value:.2f} s"
