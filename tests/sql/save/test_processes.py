"""Several processes and tasks on one context, in one database: nothing lost, no gap, no error."""

from __future__ import annotations

import asyncio
import sys

from taskctx_sql import ContextKey, open_store
from tests.support.contract import new_delta, new_run

PROCESSES = 4
TASKS = 4
SAVES = 25

WRITER = f"""
import asyncio, sys
from taskctx_sql import TaskContext, open_store

async def write(store, user, name):
    context = TaskContext({{"user_id": user, "chat_id": "shared"}}, store=store)
    await context.load()
    for number in range({SAVES}):
        context.add_context_update("message", [name, number])
        await context.save()

async def main(url, user, process):
    async with open_store(url) as store:
        await asyncio.gather(*(write(store, user, f"{{process}}-{{task}}") for task in range({TASKS})))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_processes_with_tasks_append_to_one_context_without_loss(database_url: str, user: str) -> None:
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-c", WRITER, database_url, user, str(number), stderr=asyncio.subprocess.PIPE
        )
        for number in range(PROCESSES)
    ]
    ends = await asyncio.gather(*(process.communicate() for process in started))
    assert [process.returncode for process in started] == [0] * PROCESSES, ends
    async with open_store(database_url) as store:
        rows = [row async for row in store.updates(ContextKey(user, "shared"))]
        loaded = await store.load(ContextKey(user, "shared"))
    total = PROCESSES * TASKS * SAVES
    assert [row.seq for row in rows] == list(range(1, total + 1))
    assert loaded.revision == total
    by_writer: dict[str, list[int]] = {}
    for row in rows:
        name, number = row.update.data
        by_writer.setdefault(name, []).append(number)
    assert len(by_writer) == PROCESSES * TASKS
    assert all(numbers == list(range(SAVES)) for numbers in by_writer.values())


async def test_sixteen_tasks_append_to_one_context_without_loss(database_url: str, user: str) -> None:
    key = ContextKey(user, "shared")

    async def write(name: int) -> None:
        run = new_run()
        for number in range(1, SAVES + 1):
            await store.save(new_delta(key, [name, number], run=type(run)(run.run_id, number, run.started_at)))

    async with open_store(database_url) as store:
        await asyncio.gather(*(write(name) for name in range(16)))
        rows = [row async for row in store.updates(key)]
    assert [row.seq for row in rows] == list(range(1, 16 * SAVES + 1))
    assert len({tuple(row.update.data) for row in rows}) == 16 * SAVES
