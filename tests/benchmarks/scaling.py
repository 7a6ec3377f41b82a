"""``python -m tests.benchmarks.scaling``: the same work at each step from a file to several machines, in turns."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import asyncpg
import click
from rich.console import Console
from rich.table import Table

from taskctx_sql import schema
from tests.benchmarks import servers
from tests.benchmarks.figures import Asked, Figure, Results
from tests.benchmarks.measuring import Workload, measure
from tests.benchmarks.sides import Ours, Side
from tests.benchmarks.workloads import History, bulk_save, load, load_newest, many_contexts, step_save
from tests.support import pgbouncer

FILE, SERVER, POOLER, CITUS = "file", "server", "behind pgbouncer", "Citus"
# How many updates tell what one takes on the disk.
SIZED = 30_000


class Step(Ours):
    """This library at one of the steps."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(url)
        self.name = name


def workloads(names: list[str], quick: bool) -> list[list[Workload[Side]]]:
    all_of_them: Asked = {name: {} for name in names}
    few, many = (1, 10) if quick else (3, 100)
    history = History(10_000)
    return [
        [step_save(history, many, all_of_them)],
        [many_contexts(200, 4 if quick else 20, 50, all_of_them)],
        [bulk_save(10_000, few, all_of_them)],
        [load(history, few, all_of_them, touch=True), load_newest(history, 100, all_of_them)],
    ]


async def run(server: str, citus: str | None, quick: bool) -> tuple[Results, dict[str, float]]:
    results = Results()
    sizes: dict[str, float] = {}
    with ExitStack() as outer:
        folder = Path(outer.enter_context(tempfile.TemporaryDirectory()))
        async with servers.databases(server, 1) as (url,), AsyncExitStack() as stack:
            urls = {FILE: f"sqlite:///{folder / 'tasks.db'}", SERVER: url}
            if pgbouncer.BINARY:
                urls[POOLER] = f"{outer.enter_context(pgbouncer.running(url))}?transaction_pooling=true"
            if citus is not None:
                urls[CITUS] = citus
            for name in (FILE, SERVER, CITUS):
                if name in urls:
                    await schema.upgrade(urls[name])
            sides = [Step(address, name) for name, address in urls.items()]
            for side in sides:
                await side.open()
                stack.push_async_callback(side.close)
            for asked in workloads(list(urls), quick):
                await measure("scaling", sides, asked, 2 if quick else 5, results)
            for side in sides:
                if side.name != POOLER:
                    sizes[side.name] = await bytes_an_update(side, urls[side.name], folder)
    return results, sizes


async def bytes_an_update(side: Step, url: str, folder: Path) -> float:
    """What an update takes on the disk with all that belongs to it, saved three at a time."""
    before = await _size(url, folder)
    for _ in range(SIZED // 3_000):
        chat = side.new_chat()
        for _ in range(1_000):
            side.add(chat, 3)
            await side.save(chat)
    side.let_go()
    return (await _size(url, folder) - before) / SIZED


async def _size(url: str, folder: Path) -> int:
    if url.startswith("sqlite"):
        # What is in the log goes into the file in the end.
        return sum(path.stat().st_size for path in folder.glob("tasks.db") if path.is_file())
    connection = await asyncpg.connect(url)
    try:
        whole = "pg_total_relation_size(c.oid)"
        if await connection.fetchval("SELECT to_regclass('pg_dist_partition') IS NOT NULL"):
            whole = "citus_total_relation_size(c.oid)"
        statement = f"SELECT sum({whole}) FROM pg_class c WHERE relkind = 'r' AND relname LIKE 'taskctx%'"
        return int(await connection.fetchval(statement))
    finally:
        await connection.close()


def table(results: Results, sizes: dict[str, float]) -> Table:
    names = list(dict.fromkeys(figure.side for figure in results.figures))
    shown = Table(box=None, padding=(0, 2, 0, 0))
    shown.add_column("workload")
    for name in names:
        shown.add_column(name, justify="right")
    for workload in dict.fromkeys(figure.workload for figure in results.figures):
        found = {figure.side: figure for figure in results.figures if figure.workload == workload}
        shown.add_row(workload, *(_cell(found[name], found[SERVER]) for name in names))
    shown.add_row("bytes an update", *(f"{sizes[name]:,.0f}" if name in sizes else "" for name in names))
    return shown


def _cell(figure: Figure, server: Figure) -> str:
    beside = "" if figure is server else f" ({server.median / figure.median:.2f} x)"
    if figure.pieces == 1:
        return f"{figure.median * 1e3:.2f} ms{beside}"
    return f"{figure.rate:,.0f} /s{beside}"


@click.command()
@click.option("--quick", is_flag=True, help="Fewer repetitions.")
@click.option("--postgres-url", envvar="TASKCTX_TEST_POSTGRES_URL", help="A server; without it one of our own is used.")
@click.option("--citus-url", envvar="TASKCTX_TEST_CITUS_URL", help="The coordinator of a Citus; its tables are used.")
@click.option("--json", "output", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there.")
def main(quick: bool, postgres_url: str | None, citus_url: str | None, output: Path | None) -> None:
    """Measure each step from a file to several machines; in brackets how fast it is beside the server alone."""
    with servers.postgres(postgres_url) as server:
        results, sizes = asyncio.run(run(server, citus_url, quick))
    Console(width=None if sys.stdout.isatty() else 100, highlight=False).print(table(results, sizes))
    if output is not None:
        figures: dict[str, Any] = {"figures": [figure.as_json() for figure in results.figures], "bytes": sizes}
        output.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
