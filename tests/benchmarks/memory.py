"""The memory that a loaded context holds while nobody looks at its values, beside the bytes of its JSON.

``python -m tests.benchmarks.memory`` is the fresh process in which it is measured: it loads the context that its
environment names, and prints what it counted.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

from taskctx_sql import TaskContext, open_store
from tests.benchmarks.figures import OURS, Asked, Figure, Results
from tests.benchmarks.measuring import progress
from tests.benchmarks.sides import Ours

FILE = "original's file"
# The same history with nothing around it, and its data and metadata alone.
COMPACT = "compact JSON"
VALUES = "values' JSON"

ASKED: Asked = {FILE: {"sqlite": 1.7, "postgres": 1.7}}


async def measure(engine: str, ours: Ours, count: int, results: Results) -> None:
    """Measure a context of so many updates. Once: it is a count of bytes, which no noise changes."""
    name = f"memory of {count:,}, untouched"
    with progress(engine, name):
        chat = ours.new_chat()
        ours.add(chat, count)
        await ours.save(chat)
        ours.let_go()
        counted = _in_a_fresh_process(ours.url, ours.prefix, chat)
    figures = [Figure(engine, name, side, [value], unit="bytes") for side, value in counted.items()]
    results.add(figures, "size", ASKED)


def _in_a_fresh_process(url: str, user: str, chat: int) -> dict[str, int]:
    environment = os.environ | {"BENCHMARK_URL": url, "BENCHMARK_USER": user, "BENCHMARK_CHAT": str(chat)}
    command = [sys.executable, "-m", "tests.benchmarks.memory"]
    root = Path(__file__).parents[2]
    found = subprocess.run(command, env=environment, cwd=root, check=True, stdout=subprocess.PIPE)
    counted: dict[str, int] = json.loads(found.stdout)
    return counted


async def _count(url: str, user: str, chat: str) -> dict[str, int]:
    async with open_store(url) as store:
        # What any first load makes is not this context's.
        await TaskContext({"user_id": user, "chat_id": "nobody"}, store=store).load()
        context = TaskContext({"user_id": user, "chat_id": chat}, store=store)
        gc.collect()
        tracemalloc.start()
        await context.load()
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    entries = context.to_dict()["context_history"]
    values = [value for entry in entries for value in (entry["data"], entry["metadata"])]
    return {
        OURS: held,
        FILE: len(json.dumps(entries, indent=2).encode()),
        COMPACT: len(json.dumps(entries, ensure_ascii=False).encode()),
        VALUES: sum(len(json.dumps(value, ensure_ascii=False).encode()) for value in values),
    }


if __name__ == "__main__":
    names = ("BENCHMARK_URL", "BENCHMARK_USER", "BENCHMARK_CHAT")
    sys.stdout.write(json.dumps(asyncio.run(_count(*(os.environ[name] for name in names)))))
