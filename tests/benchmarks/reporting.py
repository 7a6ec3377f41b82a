"""``python -m tests.benchmarks.reporting``: what the views take over a large SQLite database, and by which indexes.

Each is asked for everything, and for one user, one context and one day.
"""

from __future__ import annotations

import asyncio
import random
import re
import tempfile
import time
from pathlib import Path

import click
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from taskctx_sql import SqlStore, TaskContext, schema
from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import views

USERS = 50
SAVES = 4
MODELS = ("gpt-4", "claude", "local")
FIRST = 1_780_000_000.0
# So many seconds after each other the tasks begin: a thousand of them take a month.
APART = 2_600.0


async def fill(store: SqlStore, number: int, updates: int) -> None:
    """Save a task of so many updates, as an agent would make them."""
    chance = random.Random(number)
    now = FIRST + number * APART

    def clock() -> float:
        nonlocal now
        now += chance.random() * 3
        return now

    context = TaskContext({"user_id": f"user{number % USERS}", "chat_id": f"chat{number}"}, store=store, clock=clock)
    for _ in range(SAVES):
        for step in range(updates // SAVES // 5):
            context.add_context_update("message", {"step": step, "text": "lorem ipsum " * 25}, {"source": "agent"})
            context.track_file_operation(f"file{chance.randrange(60)}.txt", "read", "agent")
            context.track_model_usage(chance.choice(MODELS), "p", "chat", input_tokens=100, output_tokens=20, cost=0.01)
            context.add_context_update("step", "x" * 200)
            kind = "error" if chance.random() < 0.02 else "step"
            context.add_context_update(kind, {"message": "it broke", "step": step})
        await context.save()


async def ask(connection: AsyncConnection, view: str, condition: str) -> tuple[int, float, str]:
    """Return how many rows there are, how many seconds they took, and which indexes were used."""
    statement = f"SELECT * FROM {view} WHERE {condition}"
    started = time.perf_counter()
    rows = len((await connection.execute(sa.text(statement))).all())
    took = time.perf_counter() - started
    plan = (await connection.execute(sa.text(f"EXPLAIN QUERY PLAN {statement}"))).all()
    indexes = re.findall(r"INDEX (?:sqlite_autoindex_)?taskctx_(\w+)", " ".join(row[3] for row in plan))
    return rows, took, ", ".join(dict.fromkeys(indexes))


async def measure(url: str, contexts: int, updates: int) -> Table:
    """Fill a database, and ask each view."""
    await schema.upgrade(url)
    store = await SqlStore.open(url)
    for start in range(0, contexts, 20):
        await asyncio.gather(*(fill(store, number, updates) for number in range(start, min(start + 20, contexts))))
    await store.close()
    table = Table("view", "asked for", "rows", "ms", "indexes", box=None, padding=(0, 2, 0, 0))
    engine = engines.create_engine(engines.parse_url(url))
    async with engine.connect() as connection:
        context = await connection.scalar(sa.text("SELECT context_id FROM taskctx_contexts WHERE chat_id = 'chat1'"))
        for view, made in views.metadata.tables.items():
            day = await connection.scalar(sa.text(f"SELECT day FROM {view} LIMIT 1")) if "day" in made.c else None
            asked = {"user_id": "user1", "context_id": context, "day": day}
            conditions = {name: f"{name} = '{value}'" for name, value in asked.items() if name in made.c}
            for name, condition in {"everything": "1 = 1", **conditions}.items():
                rows, took, indexes = await ask(connection, view, condition)
                table.add_row(view.removeprefix("taskctx_report_"), name, f"{rows:,}", f"{took * 1000:,.0f}", indexes)
    await engine.dispose()
    return table


@click.command()
@click.option("--contexts", default=1_000, show_default=True)
@click.option("--updates", default=1_000, show_default=True, help="In each of them.")
def main(contexts: int, updates: int) -> None:
    """Measure the views over a SQLite database that is made for it."""
    with tempfile.TemporaryDirectory(prefix="taskctx-benchmark-") as folder:
        table = asyncio.run(measure(f"sqlite:///{Path(folder)}/tasks.db", contexts, updates))
    Console(width=150, highlight=False).print(table)


if __name__ == "__main__":
    main()
