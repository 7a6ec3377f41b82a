"""``python -m tests.benchmarks.frameworks``: each framework's own store beside ours, in turns, in one run."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tests.benchmarks import machine, servers
from tests.benchmarks.figures import Results
from tests.benchmarks.frameworks.filling import describe, seconds_of_a_sync, without_waiting
from tests.benchmarks.frameworks.paste import markdown
from tests.benchmarks.frameworks.sides import Engine, Framework, Side
from tests.benchmarks.frameworks.workloads import LONG, workloads
from tests.benchmarks.measuring import measure, progress
from tests.benchmarks.table import table

# Each module has `FRAMEWORKS`; one whose framework is not installed is left out, and named.
MODULES = {
    "a2a": "a2a",
    "claude_agent_sdk": "claude_agent_sdk",
    "openai_agents": "agents",
    "langgraph": "langgraph.checkpoint.postgres",
    "adk": "google.adk",
    "pydantic_ai": "pydantic_ai_harness",
}
ENGINES: tuple[Engine, ...] = ("sqlite", "postgres")


async def compare(
    framework: Framework,
    engine: Engine,
    urls: Sequence[str],
    rounds: int,
    results: Results,
    growths: list[Any],
    notes: set[str],
) -> None:
    """Measure ours and each of its own, each on a database of its own."""
    own = framework.own[engine]
    sides: list[Side] = [make(url) for make, url in zip((framework.ours, *own), urls, strict=False)]
    async with AsyncExitStack() as opened:
        where = f"{framework.name}, {engine}"
        with progress(where, "fill"):
            for side in sides:
                opened.push_async_callback(side.close)
                if framework.fills_by_turns:
                    async with without_waiting(side):
                        await side.fill(LONG, framework.entries)
                else:
                    await side.open()
                    await side.fill(LONG, framework.entries)
        notes |= {f"{where}: {side.name} commits with {describe(side)}." for side in sides}
        await measure(
            where, sides, workloads(framework, engine, [side.name for side in sides[1:]], notes), rounds, results
        )
        if framework.grows:
            growth = importlib.import_module("tests.benchmarks.frameworks.growth")
            growths += [await growth.measure(where, side) for side in sides]


async def run(
    folder: Path,
    server: str,
    only: str,
    engines: Sequence[Engine],
    entries: int | None,
    sessions: int,
    rounds: int,
    results: Results,
    growths: list[Any],
    notes: set[str],
) -> dict[str, str]:
    for module in MODULES:
        if not is_installed(module):
            continue
        for framework in importlib.import_module(f"tests.benchmarks.frameworks.{module}").FRAMEWORKS:
            if only not in framework.name:
                continue
            framework = replace(framework, entries=entries or framework.entries, sessions=sessions)
            for engine in engines:
                if engine == "sqlite":
                    urls = [f"sqlite:///{folder}/{framework.name.replace(' ', '-')}-{number}.db" for number in range(4)]
                    await compare(framework, engine, urls, rounds, results, growths, notes)
                    continue
                async with servers.databases(server, 1 + len(framework.own[engine])) as databases:
                    await compare(framework, engine, databases, rounds, results, growths, notes)
    return await servers.settings(server)


def is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(MODULES[module]) is not None
    except ModuleNotFoundError:
        return False


@click.command()
@click.option("--only", default="", help="Only frameworks with this in their name.")
@click.option("--engine", type=click.Choice(ENGINES), help="Only this engine.")
@click.option("--entries", type=int, help="How many entries the long session has, instead of 10,000 or 1,000 steps.")
@click.option("--sessions", default=200, show_default=True, help="How many sessions are in flight.")
@click.option("--rounds", default=3, show_default=True, help="How often each side does each work.")
@click.option("--postgres-url", envvar="TASKCTX_TEST_POSTGRES_URL", help="A server; without it one of our own is used.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures there.")
def main(
    only: str,
    engine: Engine | None,
    entries: int | None,
    sessions: int,
    rounds: int,
    postgres_url: str | None,
    json_path: Path | None,
) -> None:
    """Measure each installed framework's own SQL store beside this library's, at the same work."""
    started = time.perf_counter()
    results, growths, notes = Results(), list[Any](), set[str]()
    where = Path.cwd()
    with (
        tempfile.TemporaryDirectory(prefix="taskctx-benchmark-") as folder,
        servers.postgres(postgres_url) as server,
    ):
        os.chdir(folder)
        sync = seconds_of_a_sync(Path(folder))
        engines = ENGINES if engine is None else (engine,)
        settings = asyncio.run(
            run(Path(folder), server, only, engines, entries, sessions, rounds, results, growths, notes)
        )
        os.chdir(where)
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, markup=False)
    console.print(table(results.comparisons))
    if growths:
        console.print(growth_table(growths))
    for note in sorted(notes):
        console.print(note)
    measured_on = machine.describe() | {"postgres": settings, "seconds_of_a_sync": sync}
    console.print(f"SQLite's files were where a sync of 4 kB takes {sync * 1e3:.2f} ms. Postgres: {settings}.")
    missing = [module for module in MODULES if not is_installed(module)]
    if missing:
        console.print(f"Not installed, and so not measured: {', '.join(missing)}.")
    click.echo(f"\n{markdown(results.comparisons, rounds)}\n")
    console.print("How many times faster ours is, and in brackets in the worst round.")
    console.print(f"Medians; ratios say how many times faster ours is. It took {time.perf_counter() - started:.0f} s.")
    if json_path is not None:
        figures = [figure.as_json() for figure in results.figures]
        comparisons = [comparison.as_json() for comparison in results.comparisons]
        found = {"machine": measured_on, "figures": figures, "comparisons": comparisons}
        json_path.write_text(json.dumps(found | {"growth": [one.as_json() for one in growths]}, indent=1), "utf-8")


def growth_table(growths: Sequence[Any]) -> Table:
    """A step's time and bytes in the first and the last hundred of a thread."""
    shown = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("a graph's thread", "store"):
        shown.add_column(column, no_wrap=True)
    for column in ("first 100 steps", "last 100 steps", "first 100, a step", "last 100, a step"):
        shown.add_column(column, justify="right", no_wrap=True)
    for one in growths:
        times = [f"{seconds * 1e3:.2f} ms" for seconds in (one.first_seconds, one.last_seconds)]
        shown.add_row(one.engine, one.side, *times, *(f"{size:,.0f} B" for size in (one.first_bytes, one.last_bytes)))
    return shown


if __name__ == "__main__":
    main()
