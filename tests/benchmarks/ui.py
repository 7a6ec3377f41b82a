"""``python -m tests.benchmarks.ui``: how long each view of ``taskctx ui`` takes over a large database.

Each address is asked for several times. The first answer is there after a moment even if sums take longer: then it says
that they are being read, and is asked for again until all of it is there. Processor time is that of this process, with
SQLite in it, and that of the Postgres server; on a busy machine it says more than the time that passed.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import click
import httpx

from taskctx_sql import open_store
from taskctx_sql.ui.server import application
from taskctx_sql.ui.warming import settle, warm
from tests.benchmarks import large
from tests.benchmarks.kept import LONGEST, database, server_in

PENDING = 'http-equiv="refresh"'
VIEWS = (
    *("/", "/?period=24h", "/?period=7d", "/?period=all", "/?user=user-7", "/tasks", "/tasks?period=all"),
    *(
        "/tasks?page=100",
        "/tasks?outcome=failed",
        "/tasks?outcome=completed",
        "/tasks?sort=cost",
        "/tasks?sort=updates",
    ),
    *("/tasks?model=gpt-4o&period=7d", "/tasks?model=gpt-4o", "/tasks?tool=run_tests", "/tasks?label=team=support"),
    *("/tasks?title=ferry", "/tasks?user=user-7", "/runs", "/runs?sort=duration", "/runs?sort=cost", "/calls"),
    *("/calls?outcome=failed", "/calls?tool=run_tests&outcome=failed&period=24h", "/models", "/tools", "/errors"),
    *("/files", "/files?path=ferry", "/users", "/costs?by=task", "/costs?by=day", "/costs?by=user"),
    *("/costs?by=label:team", "/costs?by=tree", "/search?q=ferry+lithium"),
    "/search?q=nowhere+to+be+found&period=7d",
)
Clock = Callable[[], float]


def task_views() -> list[str]:
    """Return the addresses of a short task, and of the long one with its parts."""
    short, long = (f"/task?user={key.user_id}&chat={key.chat_id}" for key in (large.key_of(1), large.key_of(0)))
    middle = LONGEST // 2
    parts = ("", f"&seq={middle}", "&part=details", "&part=history", f"&part=update&seq={middle}")
    return [short, *(f"{long}{part}" for part in parts)]


@dataclass(frozen=True)
class Figures:
    """What a view took, all times in milliseconds: until it was there at first and as a whole, and when asked again."""

    address: str
    first: float
    first_processor: float
    whole: float
    whole_processor: float
    again: float
    worst: float
    again_processor: float

    def row(self) -> str:
        """Return them as a row of a table."""
        numbers = (self.first, self.first_processor, self.whole, self.whole_processor, self.again, self.worst)
        cells = " | ".join(f"{number:,.0f}" for number in (*numbers, self.again_processor))
        return f"| `{self.address}` | {cells} |"


HEADINGS = ("view", "first answer", "of processor", "whole", "of processor", "again, median", "worst", "of processor")


async def measure(url: str, rounds: int, processor: Clock, only: str = "") -> list[Figures]:
    """Ask for each view, or for those whose address has a text, and print how long it took, in milliseconds."""
    click.echo("\n".join(f"| {' | '.join(cells)} |" for cells in (HEADINGS, ["---"] * len(HEADINGS))))
    measured = []
    async with open_store(url) as store:
        # As the command does before it is reached.
        first = application(store, token=None)
        await warm(first)
        await first.state.parts.close()
        settle()
        for address in (*VIEWS, *task_views()):
            if only not in address:
                continue
            # Each view begins with nothing that another one has read.
            app = application(store, token=None)
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=None) as look:
                measured.append(await _measure(look, address, rounds, processor))
            await app.state.parts.close()
            click.echo(measured[-1].row())
    return measured


async def _measure(look: httpx.AsyncClient, address: str, rounds: int, processor: Clock) -> Figures:
    begun, used = time.perf_counter(), processor()
    answer = await look.get(address)
    first, first_processor = time.perf_counter() - begun, processor() - used
    while PENDING in answer.text:
        # As the page tells the browser to do.
        await asyncio.sleep(1)
        answer = await look.get(address)
    whole, whole_processor = time.perf_counter() - begun, processor() - used
    answer.raise_for_status()
    times, used = [], processor()
    for _ in range(rounds):
        begun = time.perf_counter()
        await look.get(address)
        times.append(time.perf_counter() - begun)
    again = (processor() - used) / rounds
    found = (first, first_processor, whole, whole_processor, statistics.median(times), max(times), again)
    return Figures(address, *(1000 * figure for figure in found))


def processor_clock(server: int | None) -> Clock:
    """Return what tells the processor time in seconds, of this process and of a Postgres by its first process."""
    import psutil  # type: ignore[import-untyped]  # it has no types

    def used() -> float:
        found = time.process_time()
        if server is not None:
            first = psutil.Process(server)
            found += sum(first.cpu_times()[:4])
            for process in first.children():
                # One that has ended meanwhile is among the children of the first one from now on.
                with suppress(psutil.NoSuchProcess):
                    found += sum(process.cpu_times()[:2])
        return found

    return used


async def run(
    engine: str, updates: int, rounds: int, only: str, folder: Path | None, url: str | None, *, fills: bool
) -> None:
    """Measure on a database in a folder or at an address; one that is not there is made, and filled."""
    async with AsyncExitStack() as exits:
        server: int | None = None
        if url is None:
            place = folder or Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="taskctx-benchmark-")))
            place.mkdir(parents=True, exist_ok=True)
            base = ""
            if engine == "postgres":
                base, server = exits.enter_context(server_in(place / "postgres"))
            url = await database(place, base, updates)
        if fills:
            return
        measured = await measure(url, rounds, processor_clock(server), only)
    slow = [view.address for view in measured if view.first > 200]
    click.echo(f"\n{len(measured)} views, of which the first answer took more than 200 ms: {', '.join(slow) or 'none'}")


@click.command()
@click.option("--engine", type=click.Choice(["sqlite", "postgres"]), default="sqlite", show_default=True)
@click.option(
    "--updates", default=1_000_000, show_default=True, help="How many updates it has besides the long task's."
)
@click.option("--rounds", default=5, show_default=True, help="How often each view is asked for again.")
@click.option(
    "--keep", type=click.Path(file_okay=False, path_type=Path), help="A folder for the database, to use again."
)
@click.option("--database", "url", metavar="URL", help="A database that is there, and is not filled.")
@click.option("--only", default="", metavar="TEXT", help="Only views with this text in their address.")
@click.option("--fill", "fills", is_flag=True, help="Only fill the database.")
def main(engine: str, updates: int, rounds: int, keep: Path | None, url: str | None, only: str, *, fills: bool) -> None:
    """Print how long each view takes, as a table in Markdown, in milliseconds."""
    asyncio.run(run(engine, updates, rounds, only, keep, url, fills=fills))


if __name__ == "__main__":
    main()
