"""``python -m tests.benchmarks.reports``: what the reports take over a large database, and what the same sum takes raw.

Raw is the plainest sum by day over the table of the uses, on the driver's own connection: no report can be faster.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import asyncpg
import click

from taskctx_sql import ContextKey, SqlStore, open_store, schema
from tests.benchmarks import large
from tests.support.postgres import Server

_DAY: Final = 86_400.0
_SAVES: Final = 300
_RAW: Final = {
    "sqlite": 'SELECT CAST("timestamp" / 86400 AS INTEGER), count(*), sum(cost) FROM taskctx_models GROUP BY 1',
    "postgres": 'SELECT floor("timestamp" / 86400), count(*), sum(cost) FROM taskctx_models GROUP BY 1',
}
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
        "running, the first 10": lambda: reports.running(limit=10),
        "costs by day, 30 days": lambda: reports.costs("day", since=month),
        "models, 30 days": lambda: reports.models(since=month),
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


async def seconds_of(question: Question) -> float:
    """Return the shorter of two times, or the only one if it is long."""
    times: list[float] = []
    while len(times) < 2 and sum(times) < 20:
        started = time.perf_counter()
        await question()
        times.append(time.perf_counter() - started)
    return min(times)


async def _raw(engine: str, url: str) -> float:
    async def ask() -> None:
        if engine == "sqlite":
            connection = sqlite3.connect(url.removeprefix("sqlite:///"))
            connection.execute(_RAW[engine]).fetchall()
            connection.close()
        else:
            server = await asyncpg.connect(url)
            await server.fetch(_RAW[engine])
            await server.close()

    return await seconds_of(ask)


async def seconds_of_all(url: str, now: float) -> dict[str, float]:
    """Return what each question takes, and a save with one use of a model, the mean of many."""
    async with open_store(url) as store:
        assert isinstance(store, SqlStore)
        found = {name: await seconds_of(question) for name, question in questions(store, now).items()}
        key = ContextKey("saver", "c1")
        started = time.perf_counter()
        for number in range(_SAVES):
            use = {"model_id": "m", "cost": 0.5, "timestamp": now}
            await store.write(key, updates=[("message", f"number {number}")], models=[use])
        found["a save with a use of a model"] = (time.perf_counter() - started) / _SAVES
    return found


async def measure(engine: str, url: str, updates: int) -> None:
    """Fill a database, and print the times without daily sums and with them as rows of a table in Markdown."""
    now = time.time()
    await schema.upgrade(url)
    await large.fill(url, updates // large.UPDATES, ended=now)
    raw = await _raw(engine, url)
    click.echo(f"| raw sum by day | {raw * 1000:,.1f} | 1.0 | |")
    without = await seconds_of_all(url, now)
    started = time.perf_counter()
    await schema.upgrade(url, sums=True)
    built = time.perf_counter() - started
    await large.analyze(url)
    summed = await seconds_of_all(url, now)
    for name, took in without.items():
        click.echo(f"| {name} | {took * 1000:,.1f} | {took / raw:,.1f} | {summed[name] * 1000:,.1f} |")
    click.echo(f"\nThe sums were built in {built:,.1f} s.")


@click.command()
@click.option("--updates", default=100_000, show_default=True, help="How many updates the database has.")
@click.option("--engine", type=click.Choice(list(_RAW)), default="sqlite", show_default=True)
def main(updates: int, engine: str) -> None:
    """Print what each report takes, in milliseconds, how often the raw sum fits in it, and the time with daily sums."""
    click.echo(f"{engine}, {updates:,} updates\n\n| question | ms | times the raw sum | ms with daily sums |")
    click.echo("| --- | --- | --- | --- |")
    if engine == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(measure(engine, f"sqlite:///{Path(folder) / 'tasks.db'}", updates))
        return
    with Server() as server:
        asyncio.run(measure(engine, server.url, updates))


if __name__ == "__main__":
    main()
