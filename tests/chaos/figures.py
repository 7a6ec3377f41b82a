"""What a test of the harness found, as a row of a table."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from tests.chaos.trial import Result


def figures(test: str, over: str, result: Result) -> dict[str, Any]:
    found = result.findings
    return {
        "test": test,
        "connection": over,
        "cycles": result.cycles,
        "acknowledged": result.acknowledged,
        "lost": found.lost,
        "doubled": found.doubled,
        "partial": found.partial,
        "gaps": found.gaps,
        "longest outage (s)": round(result.longest, 3),
        "verdict": "bad" if result.complaints else "ok",
    }


def table(rows: list[dict[str, Any]]) -> Table:
    shown = Table(box=None, padding=(0, 2, 0, 0))
    for column in rows[0]:
        shown.add_column(
            column, justify="left" if column in ("test", "connection", "verdict") else "right", no_wrap=True
        )
    for row in rows:
        shown.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    return shown
