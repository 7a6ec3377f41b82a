"""``python -m tests.benchmarks.reports``: what the reports take over a large database, and what the same sum takes raw.

Raw is the plainest sum by day over the table of the uses, on the driver's own connection: no report can be faster. The
database and its copy with daily sums take turns, in what is asked and in saves. What a question needs of the
processors, the Postgres server's included, says more than its time where others use the machine.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from unittest import mock

import asyncpg
import click

from taskctx_sql import ContextKey, SqlStore, schema
from taskctx_sql.sql.backends import catch_up
from tests.benchmarks import kept, large, servers

_DAY: Final = 86_400.0
# A question is asked so often, unless that takes longer than so many seconds.
_TIMES: Final = 3
_PATIENCE: Final = 20.0
_ROUNDS: Final = 10
_SAVES: Final = 100
_SAVERS: Final = 50
_RAW: Final = {
    "sqlite": 'SELECT CAST("timestamp" / 86400 AS INTEGER), count(*), sum(cost) FROM taskctx_models GROUP BY 1',
    "postgres": 'SELECT floor("timestamp" / 86400), count(*), sum(cost) FROM taskctx_models GROUP BY 1',
}
_MEASURED: Final = ("ms", "worst", "of processor")
Question = Callable[[], Awaitable[Any]]


def questions(store: SqlStore, now: float) -> dict[str, Question]:
    """Return what is asked, by how it is called: first of all, then of a month, then of one user, context or day."""
    reports, month, key = store.reports, datetime.fromtimestamp(now - 30 * _DAY, UTC).date(), large.key_of(7)
    one: dict[str, Any] = {"user_id": key.user_id, "chat_id": key.chat_id}
    asked: dict[str, Callable[[], Any]] = {
        "costs by day": lambda: reports.costs("day"),
        "costs by model": lambda: reports.costs("model"),
        "costs by label": lambda: reports.costs("label", label="team"),
        "costs by user": lambda: reports.costs("user"),
        "costs by task, the first 10": lambda: reports.costs("task", limit=10),
        "costs by tree, the first 10": lambda: reports.costs("tree", limit=10),
        "tools": lambda: reports.tools(),
        "speed of models": lambda: reports.speed(),
        "activity": lambda: reports.activity(),
        "users": lambda: reports.users(),
        "largest, the first 10": lambda: reports.largest(limit=10),
        "running, the first 10": lambda: reports.running(limit=10),
        "costs by day, 30 days": lambda: reports.costs("day", since=month),
        "models, 30 days": lambda: reports.models(since=month),
        "tools, 30 days": lambda: reports.tools(since=month),
        "days, 30 days": lambda: reports.days(since=month),
        "costs by day, one user": lambda: reports.costs("day", user_id=key.user_id),
        "costs by model, one day": lambda: reports.costs("model", since=now - 2 * _DAY, until=now - _DAY),
        "costs by day, one context": lambda: reports.costs("day", **one),
        "tools, one context": lambda: reports.tools(**one),
        "tree of one context": lambda: reports.tree(ContextKey(**one)),
    }
    return {name: _awaited(question) for name, question in asked.items()}


def _awaited(question: Callable[[], Any]) -> Question:
    async def ask() -> Any:
        return await question()

    return ask


async def times_of(question: Question, server: Any) -> list[float]:
    """Return the shortest and the longest of some times, and the least of the processors, in milliseconds."""
    times: list[float] = []
    used: list[float] = []
    while len(times) < _TIMES and sum(times) < _PATIENCE:
        began, before = time.perf_counter(), servers.processor_seconds(server)
        await question()
        times.append(time.perf_counter() - began)
        used.append(servers.processor_seconds(server) - before)
    return [1_000 * figure for figure in (min(times), max(times), min(used))]


async def ask_raw(url: str) -> None:
    """Read the plainest sum."""
    if url.startswith("sqlite"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
        connection.execute(_RAW["sqlite"]).fetchall()
        connection.close()
        return
    server = await asyncpg.connect(url)
    await server.fetch(_RAW["postgres"])
    await server.close()


@asynccontextmanager
async def opened(urls: Mapping[str, str]) -> AsyncIterator[dict[str, SqlStore]]:
    """Yield a store of each database."""
    async with AsyncExitStack() as exits:
        stores = {name: await SqlStore.open(url) for name, url in urls.items()}
        for store in stores.values():
            exits.push_async_callback(store.close)
        yield stores


async def ask(stores: Mapping[str, SqlStore], url: str, only: str, server: Any) -> None:
    """Print what each question takes on each database, as rows of a table."""
    (newest,) = await next(iter(stores.values())).reports.contexts(limit=1)
    asked = [questions(store, newest.updated_at) for store in stores.values()]
    head = ["question", *(f"{name}: {figure}" for name in stores for figure in _MEASURED), "times the raw sum"]
    _print_rows(head, ["---"] * len(head))
    raw = await times_of(lambda: ask_raw(url), server)
    _print_rows(["raw sum by day", *_shown(raw)])
    for name in asked[0]:
        if only in name:
            took = [await times_of(each[name], server) for each in asked]
            figures = [figure for one in took for figure in one]
            _print_rows([name, *_shown(figures), f"{took[0][2] / raw[2]:,.1f}"])


async def save(urls: Mapping[str, str], server: Any) -> None:
    """Print what saves take, with nothing in the background, and while the daily sums are brought up to date."""
    head = ["saves of a use of a model", "median us", "mean us", "p99 us", "worst us", "of processor us"]
    _print_rows(head, ["---"] * len(head))
    for title, in_background in (("alone", False), ("while it is summed", True)):
        took: dict[str, list[float]] = {name: [] for name in urls}
        used = dict.fromkeys(urls, 0.0)
        # What a store does in the background keeps its pause until it is closed.
        with mock.patch.object(catch_up, "IDLE", catch_up.IDLE if in_background else 1e9):
            async with opened(urls) as stores:
                for turn in range(_ROUNDS):
                    for name in list(stores)[:: -1 if turn % 2 else 1]:
                        before = servers.processor_seconds(server)
                        took[name] += [await _save(stores[name], number) for number in range(_SAVES)]
                        while in_background and await schema.sums_backlog(urls[name]):  # noqa: ASYNC110
                            await asyncio.sleep(0.1)
                        used[name] += servers.processor_seconds(server) - before
        for name, times in took.items():
            times.sort()
            figures = (statistics.median(times), statistics.mean(times), times[len(times) * 99 // 100], times[-1])
            micro = (f"{1e6 * figure:,.0f}" for figure in (*figures, used[name] / len(times)))
            _print_rows([f"{title}, {name}", *micro])


async def _save(store: SqlStore, number: int) -> float:
    use = {"model_id": "m", "cost": 0.5, "timestamp": time.time()}
    key = ContextKey("saver", f"chat-{number % _SAVERS}")
    began = time.perf_counter()
    await store.write(key, updates=[("message", f"number {number}")], models=[use])
    return time.perf_counter() - began


def _shown(milliseconds: Iterable[float]) -> list[str]:
    return [f"{figure:,.1f}" for figure in milliseconds]


def _print_rows(*rows: Sequence[str]) -> None:
    for row in rows:
        click.echo(f"| {' | '.join(row)} |")


async def run(folder: Path, base: str, updates: int, only: str, *, sums: bool, saves: bool) -> None:
    """Measure on the databases in a folder, or on the server at an address; they are made unless they are there."""
    urls = {"without sums": await kept.database(folder, base, updates)}
    if sums:
        urls["with sums"] = await kept.with_sums(folder, base)
    server = await servers.process(base) if base else None
    if saves:
        await save(urls, server)
        return
    async with opened(urls) as stores:
        await ask(stores, urls["without sums"], only, server)


@contextmanager
def _place(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="taskctx-benchmark-") as folder:
        yield Path(folder)


@click.command()
@click.option("--updates", default=100_000, show_default=True, help="How many updates it has, and 100,000 of one task.")
@click.option("--engine", type=click.Choice(list(_RAW)), default="sqlite", show_default=True)
@click.option(
    "--keep", type=click.Path(file_okay=False, path_type=Path), help="A folder for the databases, to use again."
)
@click.option("--only", default="", metavar="TEXT", help="Only questions with this text.")
@click.option("--sums/--no-sums", default=True, show_default=True, help="Also on a copy with daily sums.")
@click.option("--saves", is_flag=True, help="Measure saves instead, which add updates to the databases.")
def main(updates: int, engine: str, keep: Path | None, only: str, *, sums: bool, saves: bool) -> None:
    """Print what each report takes without and with daily sums, and how often the raw sum fits in it."""
    with ExitStack() as exits:
        folder, base = exits.enter_context(_place(keep)), ""
        if engine == "postgres":
            base, _ = exits.enter_context(kept.server_in(folder / "postgres"))
        asyncio.run(run(folder, base, updates, only, sums=sums, saves=saves))


if __name__ == "__main__":
    main()
