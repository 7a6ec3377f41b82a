"""How soon a watch sees what another process saves, and what it costs while nothing happens.

``python -m tests.benchmarks.watching``. Beside each delay stands what the engine itself can do: NOTIFY after the
commit on Postgres, asking a file for its ``data_version`` every 50 ms on SQLite.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import asyncpg
import click
from rich.console import Console
from rich.table import Table

from taskctx_sql import ContextKey, Store, TaskContext, open_store, schema
from tests.benchmarks import servers
from tests.support import pgbouncer

USER = "watched"
# So that a save comes when all is quiet again, and at no fixed moment of anybody's clock.
GAP = 0.137

# Saves, tells each time when it had been acknowledged, on the clock that all processes of the machine share.
SAVER = f"""
import asyncio, json, sys, time
from taskctx_sql import TaskContext, open_store

async def main(url, saves):
    times = []
    async with open_store(url) as store:
        context = TaskContext({{"user_id": {USER!r}, "chat_id": "c0"}}, store=store)
        await context.load()
        for number in range(saves):
            await asyncio.sleep({GAP})
            context.add_context_update("message", number)
            await context.save()
            times.append(time.monotonic())
    print(json.dumps(times))

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""

# The same without the library.
RAW_SAVER = f"""
import asyncio, json, sqlite3, sys, time
import asyncpg

async def main(url, saves):
    times = []
    postgres = await asyncpg.connect(url) if url.startswith("postgres") else None
    file = None if postgres else sqlite3.connect(url, isolation_level=None)
    for number in range(saves):
        await asyncio.sleep({GAP})
        if postgres:
            await postgres.execute("INSERT INTO raw VALUES ($1)", number)
            times.append(time.monotonic())
            await postgres.execute("SELECT pg_notify('raw', '')")
        else:
            file.execute("INSERT INTO raw VALUES (?)", (number,))
            times.append(time.monotonic())
    print(json.dumps(times))

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


@click.command()
@click.option("--postgres-url", help="A server to measure on; one of our own if not given.")
@click.option("--saves", default=400, show_default=True, help="How many deliveries are timed.")
@click.option("--seconds", default=20.0, show_default=True, help="How long nothing happens.")
def main(postgres_url: str | None, saves: int, seconds: float) -> None:
    """Measure how soon a watch delivers, and its cost while idle."""
    asyncio.run(_measure(postgres_url, saves, seconds))


async def _measure(named: str | None, saves: int, seconds: float) -> None:
    delays = Table("delivered after the save was acknowledged, ms", "p50", "p99", "worst", "x raw p50")
    idle = Table("idle", "watches", "polls a second", "CPU, ms a second", "of that for each watch, ms")
    with tempfile.TemporaryDirectory(prefix="taskctx-watching-") as name, servers.postgres(named) as server:
        file = f"{name}/tasks.db"
        raw = await _raw_on_sqlite(f"{name}/raw.db", saves)
        _add(delays, "SQLite: asked every 50 ms", raw, raw)
        _add(delays, "SQLite: watch", await _delays(f"sqlite:///{file}", saves), raw)
        await _idle(idle, "SQLite", f"sqlite:///{file}", seconds)
        async with servers.databases(server, 1) as (url,):
            await schema.upgrade(url)
            raw = await _raw_on_postgres(url, saves)
            _add(delays, "Postgres: NOTIFY", raw, raw)
            _add(delays, "Postgres: watch", await _delays(url, saves), raw)
            await _idle(idle, "Postgres", url, seconds)
            if pgbouncer.BINARY:
                with pgbouncer.running(url) as pooled:
                    pooled += "?transaction_pooling=true"
                    _add(delays, "Postgres behind pgbouncer: watch", await _delays(pooled, saves), raw)
                    await _idle(idle, "Postgres behind pgbouncer", pooled, seconds)
    Console().print(delays, idle)


def _add(table: Table, name: str, found: list[float], raw: list[float]) -> None:
    p50, p99 = statistics.median(found), statistics.quantiles(found, n=100)[98]
    ratio = p50 / statistics.median(raw)
    table.add_row(name, *(f"{1000 * value:.1f}" for value in (p50, p99, max(found))), f"{ratio:.1f}")


async def _delays(url: str, saves: int) -> list[float]:
    async with _watched(url, 1) as store, aclosing(store.watch(ContextKey(USER, "c0"), after=1)) as updates:
        saving = asyncio.create_task(_saved(SAVER, url, saves))
        seen: list[float] = []
        while len(seen) < saves:
            await anext(updates)
            seen.append(time.monotonic())
        return [at - saved for at, saved in zip(seen, await saving, strict=True)]


async def _saved(program: str, url: str, saves: int) -> list[float]:
    command = (sys.executable, "-c", program, url, str(saves))
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    told, _ = await process.communicate()
    times: list[float] = json.loads(told)
    return times


async def _raw_on_postgres(url: str, saves: int) -> list[float]:
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE raw (number bigint)")
    seen: list[float] = []
    await connection.add_listener("raw", lambda *heard: seen.append(time.monotonic()))
    saved = await _saved(RAW_SAVER, url, saves)
    await connection.close()
    return [at - before for at, before in zip(seen, saved, strict=True)]


async def _raw_on_sqlite(path: str, saves: int) -> list[float]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE raw (number integer)")
    saving = asyncio.create_task(_saved(RAW_SAVER, path, saves))
    seen: list[float] = []
    version = None
    while len(seen) < saves:
        await asyncio.sleep(0.05)
        before, version = version, connection.execute("PRAGMA data_version").fetchone()
        if version != before:
            (count,) = connection.execute("SELECT count(*) FROM raw").fetchone()
            seen += [time.monotonic()] * (count - len(seen))
    connection.close()
    return [at - before for at, before in zip(seen, await saving, strict=True)]


async def _idle(table: Table, name: str, url: str, seconds: float) -> None:
    polls = 0
    follow: Any = importlib.import_module("taskctx_sql.sql.watch.follow")
    read_new = follow.read_new

    def counted(*arguments: Any) -> Any:
        nonlocal polls
        polls += 1
        return read_new(*arguments)

    for watches in (1, 100):
        async with _watched(url, watches) as store:
            following = [asyncio.create_task(_follow(store, f"c{number}")) for number in range(watches)]
            # Until the pauses have grown.
            await asyncio.sleep(4)
            follow.read_new, polls = counted, 0
            before = time.process_time()
            await asyncio.sleep(seconds)
            used = 1000 * (time.process_time() - before) / seconds
            follow.read_new = read_new
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
        table.add_row(name, str(watches), f"{polls / seconds:.1f}", f"{used:.2f}", f"{used / watches:.3f}")


async def _follow(store: Store, chat: str) -> None:
    async for _ in store.watch(ContextKey(USER, chat)):
        pass


@asynccontextmanager
async def _watched(url: str, count: int) -> AsyncIterator[Store]:
    """Open a store in which so many contexts have one update each."""
    async with open_store(url) as store:
        for number in range(count):
            await store.delete(ContextKey(USER, f"c{number}"))
            context = TaskContext({"user_id": USER, "chat_id": f"c{number}"}, store=store)
            context.add_context_update("message", "first")
            await context.save()
        yield store


if __name__ == "__main__":
    main()
