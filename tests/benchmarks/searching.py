"""``python -m tests.benchmarks.searching``: what searches take over many updates, and what the index costs saves.

Each search is asked for its newest 50 hits, with the index and without, beside the raw statement for the index. What a
search needs of the processors, in all processes, says more than its time where others use the machine.

Saves are measured in rounds, which take turns on two databases of the same size, of which one has an index: while what
was saved is indexed in the background, and while nothing is. What waits is indexed between the rounds.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest import mock

import click
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from taskctx_sql import ContextKey, ContextUpdate, SqlStore, schema
from taskctx_sql.model.search import parse_words
from taskctx_sql.sql import engines
from taskctx_sql.sql.backends import catch_up
from taskctx_sql.sql.search.terms import byte_terms, match_expression
from tests.benchmarks import servers
from tests.benchmarks.searched import FIRST, LARGE_USER, OF_A_CONTEXT, SEARCHES, fill, texts

HITS: Final = 50
# Other searches than for everybody's newest hits: what is searched for, and the options.
FILTERED: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "rare word, a user with a tenth": (SEARCHES["rare word"], {"user_id": LARGE_USER}),
    "frequent word, a user with a tenth": (SEARCHES["frequent word"], {"user_id": LARGE_USER}),
    "rare word, a small user": (SEARCHES["rare word"], {"user_id": "user5"}),
    "frequent word, a small user": (SEARCHES["frequent word"], {"user_id": "user5"}),
    "frequent word, a context": (SEARCHES["frequent word"], {"user_id": "user5", "chat_id": "chat5"}),
    "old word, a type": (SEARCHES["word of the oldest third"], {"update_type": "tool_result"}),
    "frequent word, an hour": (SEARCHES["frequent word"], {"since": FIRST + 3_600, "until": FIRST + 7_200}),
    "rare word, by relevance": (SEARCHES["rare word"], {"order": "relevance"}),
    "frequent word, by relevance": (SEARCHES["frequent word"], {"order": "relevance"}),
}


@dataclass
class Saves:
    """What the saves of all rounds took on a database, in seconds."""

    url: str
    took: list[float] = field(default_factory=list)
    processor: float = 0.0


def show(milliseconds: float) -> str:
    """Return a figure of the table."""
    return f"{milliseconds:,.1f}"


async def ask(store: SqlStore, text: str, times: int, filters: dict[str, Any]) -> tuple[int, list[float]]:
    """Return how many of 50 hits were found, and the seconds in their order."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        hits = await store.search(text, limit=HITS, **filters)
        took.append(time.perf_counter() - began)
    return len(hits), sorted(took)


async def ask_raw(url: str, text: str, times: int) -> float:
    """Return the fewest seconds that the index alone takes for the first 50 candidates; nothing is compared."""
    words = parse_words(text, case_sensitive=False).forms
    engine = engines.create_engine(engines.parse_url(url))
    if engine.dialect.name == "sqlite":
        match = match_expression(words)
        statement = "SELECT rowid FROM taskctx_search_index(:of) ORDER BY rowid DESC LIMIT 50"
        given: dict[str, Any] = {"of": match}
    else:
        given = {"of": sorted({term for forms in words for term in byte_terms(forms[0])})}
        match = given["of"]
        statement = "SELECT context_id FROM taskctx_search_rows WHERE taskctx_search_terms(body) @> :of LIMIT 50"
    took = []
    async with engine.connect() as connection:
        for _ in range(times if match else 0):
            began = time.perf_counter()
            (await connection.execute(sa.text(statement), given)).all()
            took.append(time.perf_counter() - began)
    await engine.dispose()
    return min(took, default=float("nan"))


async def search(url: str, plain: str, times: int, server: Any) -> Table:
    """Return what each search takes."""
    columns = ("search", "hits", "median ms", "fastest", "slowest", "processor ms", "raw ms", "ms without index")
    table = Table(*columns, box=None, padding=(0, 2, 0, 0), title="searches for the newest 50 hits")
    store, without = await SqlStore.open(url), await SqlStore.open(plain)
    everybodys: dict[str, tuple[str, dict[str, Any]]] = {name: (text, {}) for name, text in SEARCHES.items()}
    for name, (text, filters) in (everybodys | FILTERED).items():
        # Each statement is prepared, and what it reads is in memory.
        await ask(store, text, 1, filters)
        before = servers.processor_seconds(server)
        hits, seconds = await ask(store, text, times, filters)
        processor = (servers.processor_seconds(server) - before) / times
        raw = await ask_raw(url, text, times)
        unindexed_hits, unindexed = await ask(without, text, 1, filters)
        assert hits == unindexed_hits, name
        figures = (statistics.median(seconds), seconds[0], seconds[-1], processor, raw, unindexed[0])
        table.add_row(name, str(hits), *(show(one * 1_000) for one in figures))
    await store.close()
    await without.close()
    return table


@asynccontextmanager
async def opened(sides: dict[str, Saves]) -> AsyncIterator[dict[str, SqlStore]]:
    """Yield a store of each side."""
    async with AsyncExitStack() as stack:
        stores = {name: await SqlStore.open(side.url) for name, side in sides.items()}
        for store in stores.values():
            stack.push_async_callback(store.close)
        yield stores


async def save(sides: dict[str, Saves], rounds: int, seconds: float, server: Any, *, indexing: bool) -> None:
    """Save one update after the other in rounds of some seconds, which take turns."""
    made, number = texts(1_000_000), 0
    async with opened(sides) as stores:
        for turn in range(rounds):
            for name in list(sides)[:: -1 if turn % 2 else 1]:
                store, side = stores[name], sides[name]
                processor, end = servers.processor_seconds(server), time.perf_counter() + seconds
                with mock.patch.object(catch_up, "IDLE", catch_up.IDLE if indexing else 1e9):
                    while (began := time.perf_counter()) < end:
                        number += 1
                        update = ContextUpdate(FIRST - number, "message", {"text": next(made)}, {})
                        await store.write(ContextKey("saver", f"chat{number % 50}"), updates=[update])
                        side.took.append(time.perf_counter() - began)
                side.processor += servers.processor_seconds(server) - processor
                if indexing:
                    while await store.search_backlog():  # noqa: ASYNC110  # it is indexed in the background
                        await asyncio.sleep(0.1)


async def save_all(url: str, plain: str, rounds: int, seconds: float, server: Any) -> AsyncIterator[Table]:
    """Yield what saves take, without and with what happens in the background."""
    for indexing in (False, True):
        title = "saves of one update, one after the other, while it is indexed" if indexing else "saves alone"
        columns = ("saves", "number", "median us", "mean us", "p99 us", "processor us, mean")
        table = Table(*columns, box=None, padding=(0, 2, 0, 0), title=title)
        sides = {"without an index": Saves(plain), "with an index": Saves(url)}
        await save(sides, rounds, seconds, server, indexing=indexing)
        figures = []
        for name, side in sides.items():
            side.took.sort()
            took, count = side.took, len(side.took)
            middle, mean, slow = statistics.median(took), statistics.mean(took), took[count * 99 // 100]
            figures.append((middle, mean, slow, side.processor / count))
            table.add_row(name, f"{count:,}", *(f"{one * 1e6:,.0f}" for one in figures[-1]))
        ratios = (mine / theirs - 1 for theirs, mine in zip(*figures, strict=True))
        table.add_row("difference", "", *(f"{ratio:+.1%}" for ratio in ratios))
        yield table


async def size(url: str) -> tuple[int, int]:
    """Return the bytes of a database with its index, and of its updates."""
    engine = engines.create_engine(engines.parse_url(url))
    async with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            total = await connection.scalar(
                sa.text("SELECT sum(pgsize) FROM dbstat WHERE name LIKE 'taskctx_search_%'")
            )
            data = await connection.scalar(sa.text("SELECT sum(length(CAST(data AS BLOB))) FROM taskctx_updates"))
        else:
            total = await connection.scalar(sa.text("SELECT pg_total_relation_size('taskctx_search_rows')"))
            data = await connection.scalar(sa.text("SELECT sum(octet_length(data)) FROM taskctx_updates"))
    await engine.dispose()
    return int(total or 0), int(data or 0)


async def measure(
    url: str, plain: str, count: int, options: dict[str, Any], server: Any = None
) -> AsyncIterator[Table | str]:
    """Yield what was measured; ``plain`` is a copy of the database without an index."""
    began, processor = time.perf_counter(), servers.processor_seconds(server)
    await schema.upgrade(url, search=True)
    took, processor = time.perf_counter() - began, servers.processor_seconds(server) - processor
    if server is not None:
        engine = engines.create_engine(engines.parse_url(url))
        async with engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(sa.text("VACUUM ANALYZE"))
        await engine.dispose()
    indexed, data = await size(url)
    built = f"built in {took:,.0f} s ({processor:,.0f} s of processor time)"
    yield f"{count:,} updates of {data / 1e6:,.0f} MB; an index of {indexed / 1e6:,.0f} MB, {built}"
    yield await search(url, plain, options["times"], server)
    async for table in save_all(url, plain, options["rounds"], options["seconds"], server):
        yield table


async def on_sqlite(count: int, options: dict[str, Any]) -> None:
    """Measure on a file."""
    with tempfile.TemporaryDirectory(prefix="taskctx-benchmark-") as name:
        plain, indexed = (f"sqlite:///{name}/{one}.db" for one in ("plain", "indexed"))
        await schema.upgrade(plain)
        await fill(plain, count)
        shutil.copy(Path(name, "plain.db"), Path(name, "indexed.db"))
        await printed(measure(indexed, plain, count, options))


async def on_postgres(named: str | None, count: int, options: dict[str, Any]) -> None:
    """Measure on a server of this machine."""
    with servers.postgres(named) as url:
        async with servers.databases(url, 2) as (indexed, plain):
            await schema.upgrade(plain)
            await fill(plain, count)
            engine = engines.create_engine(engines.parse_url(url))
            names = [str(sa.make_url(one).database) for one in (indexed, plain)]
            async with engine.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                await connection.execute(sa.text(f"DROP DATABASE {names[0]}"))
                await connection.execute(sa.text(f"CREATE DATABASE {names[0]} TEMPLATE {names[1]}"))
            await engine.dispose()
            await printed(measure(indexed, plain, count, options, await servers.process(url)))


async def printed(parts: AsyncIterator[Table | str]) -> None:
    """Print what was measured as soon as it is there."""
    console = Console(width=150, highlight=False)
    async for part in parts:
        console.print(part)
        console.print()


@click.command()
@click.option("--updates", default=1_000_000, show_default=True)
@click.option("--engine", type=click.Choice(("sqlite", "postgres")), default="sqlite", show_default=True)
@click.option("--postgres-url", help="A server on this machine; by default one is started.")
@click.option("--times", default=10, show_default=True, help="How often each search is asked.")
@click.option("--rounds", default=5, show_default=True, help="How many rounds of saves each database gets.")
@click.option("--seconds", default=2.0, show_default=True, help="How long a round takes.")
def main(updates: int, engine: str, postgres_url: str | None, **options: Any) -> None:
    """Measure searches over a database that is made for it."""
    count = updates // OF_A_CONTEXT * OF_A_CONTEXT
    asyncio.run(on_sqlite(count, options) if engine == "sqlite" else on_postgres(postgres_url, count, options))


if __name__ == "__main__":
    main()
