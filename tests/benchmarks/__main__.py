"""``python -m tests.benchmarks``: how fast it is, beside the limit from the same run.

The limit is the raw driver (stdlib sqlite3 with WAL and FULL, asyncpg with a pool of ten) writing the same rows,
encoded with ``json``, one transaction a save. Sides take turns, so that a noisy machine is noisy for both. Over other
kinds of connections than a plain address, saving is compared with the plain address, too.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from taskctx_sql import schema
from tests.benchmarks import connections, importing, in_memory, machine, memory, peers, servers, small_contexts
from tests.benchmarks.figures import Results
from tests.benchmarks.limits import PostgresLimit, SqliteHop, SqliteLimit
from tests.benchmarks.measuring import S, Workload, measure
from tests.benchmarks.sides import Ours, Side
from tests.benchmarks.table import table
from tests.benchmarks.workloads import compare_lengths, workloads
from tests.support.connections import available

ROUNDS = 5


@dataclass(frozen=True)
class Run:
    """What is asked for, and what was found so far."""

    quick: bool
    only: str
    citus_url: str | None
    results: Results = field(default_factory=Results)

    async def all(self, folder: Path, server: str) -> dict[str, str]:
        """Measure everything, and return how the server is set."""
        await self.measure("memory", in_memory.makers(folder), in_memory.workloads(self.quick))
        await self.measure("python", importing.INTERPRETERS, importing.WORKLOADS)
        await self.sqlite(folder)
        async with servers.databases(server, 3) as (ours, limit, peer):
            await self.postgres(ours, limit, peer)
            await self.small_contexts("sqlite", f"sqlite:///{folder}/ours.db", f"sqlite:///{folder}/copy.db")
            await self.small_contexts("postgres", ours, peer)
        await self.connections(server)
        return await servers.settings(server)

    async def small_contexts(self, engine: str, source: str, target: str) -> None:
        if self.only in f"{engine} small contexts":
            await schema.upgrade(source)
            await schema.upgrade(target)
            await small_contexts.compare(engine, source, target, self.results, quick=self.quick)

    async def connections(self, server: str) -> None:
        if self.only in "connections":
            kinds = available(self.citus_url)
            await connections.compare(
                kinds, server, self.citus_url, self.results, quick=self.quick, rounds=1 if self.quick else ROUNDS
            )

    async def sqlite(self, folder: Path) -> None:
        others: list[Side] = [SqliteLimit(folder / "limit.db"), SqliteHop(folder / "hop.db")]
        if self.with_peer:
            others.append(peers.OpenAiAgents(f"sqlite+aiosqlite:///{folder}/peer.db"))
        await self.engine("sqlite", Ours(f"sqlite:///{folder}/ours.db"), others)

    async def postgres(self, ours: str, limit: str, peer: str) -> None:
        others: list[Side] = [PostgresLimit(limit)]
        if self.with_peer:
            others.append(peers.OpenAiAgents(peer.replace("postgresql:", "postgresql+asyncpg:", 1)))
        await self.engine("postgres", Ours(ours), others)

    async def engine(self, engine: str, ours: Ours, others: Sequence[Side]) -> None:
        async with AsyncExitStack() as opened:
            for side in (ours, *others):
                await side.open()
                opened.push_async_callback(side.close)
            # What the peer imports is much; collecting garbage must not take longer where it is installed.
            gc.collect()
            gc.freeze()
            for together in workloads(self.quick):
                await self.measure(engine, [ours, *others], together)
            compare_lengths(engine, self.results)
            if self.only in f"{engine} memory":
                await memory.measure(engine, ours, 10_000 if self.quick else 100_000, self.results)

    async def measure(self, engine: str, sides: Sequence[S], together: Sequence[Workload[S]]) -> None:
        wanted = [workload for workload in together if self.only in f"{engine} {workload.name}"]
        if wanted:
            await measure(engine, sides, wanted, ROUNDS, self.results)

    @property
    def with_peer(self) -> bool:
        return peers.is_installed() and not self.quick

    def as_json(self) -> dict[str, Any]:
        return {
            "quick": self.quick,
            "rounds": ROUNDS,
            "figures": [figure.as_json() for figure in self.results.figures],
            "comparisons": [comparison.as_json() for comparison in self.results.comparisons],
        }


@click.command()
@click.option("--quick", is_flag=True, help="Fewer sizes and repetitions, and no peer: under a minute.")
@click.option("--only", default="", help="Only workloads with this in their name, as in 'sqlite bulk'.")
@click.option("--postgres-url", envvar="TASKCTX_TEST_POSTGRES_URL", help="A server; without it one of our own is used.")
@click.option("--citus-url", envvar="TASKCTX_TEST_CITUS_URL", help="The coordinator of a Citus, to measure there, too.")
@click.option(
    "--json",
    "json_path",
    type=click.Path(dir_okay=False, path_type=Path),
    default="benchmark.json",
    show_default=True,
    help="Write all figures there, the worst ones too.",
)
def main(quick: bool, only: str, postgres_url: str | None, citus_url: str | None, json_path: Path) -> None:
    """Measure this library on SQLite and Postgres, each beside the raw driver, and in memory beside a plain list.

    Then saving over each other kind of connection to Postgres, beside the plain address; `--only connections` does
    only this.
    """
    started = time.perf_counter()
    run = Run(quick, only, citus_url)
    with (
        tempfile.TemporaryDirectory(prefix="taskctx-benchmark-") as folder,
        servers.postgres(postgres_url) as server,
    ):
        server_settings = asyncio.run(run.all(Path(folder), server))
    measured_on = machine.describe() | {"postgres": server_settings}
    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False, markup=False)
    console.print(table(run.results.comparisons))
    console.print("Medians; the times, rates or sizes of both sides, and ours divided by the other's.")
    console.print(f"Measured on {_words(measured_on)}.")
    if not peers.is_installed():
        console.print(peers.HOW_TO_GET_IT)
    json_path.write_text(json.dumps({"machine": measured_on, **run.as_json()}, indent=1), encoding="utf-8")
    console.print(
        f"All figures, the worst ones too, are in {json_path}. It took {time.perf_counter() - started:.0f} s."
    )


def _words(facts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_words(fact) if isinstance(fact, dict) else fact}" for name, fact in facts.items())


if __name__ == "__main__":
    main()
