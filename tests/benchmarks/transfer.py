"""How fast contexts are transferred, and in how much memory: ``python -m tests.benchmarks.transfer [UPDATES ...]``.

Each number of updates is half in one context and half in ten. Each step is a fresh process, compares at the end as it
does by default, and tells its highest memory: flat means that ten times the updates take no more of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from taskctx_sql import open_store, schema
from taskctx_sql.json_files.history_format import entry_text
from taskctx_sql.maintenance import prune
from taskctx_sql.model import ContextUpdate, Retention
from taskctx_sql.transfer import copy, export, import_folder
from tests.benchmarks import servers

COUNTS = (100_000, 1_000_000)
STEPS = ("import", "import again", "copy to Postgres", "copy back", "export", "prune")
PLACES = 5_000


def main() -> None:
    """Measure each number of updates, and print a table."""
    counts = [int(text.replace(",", "")) for text in sys.argv[1:]] or list(COUNTS)
    asyncio.run(_measure(counts))


async def _measure(counts: list[int]) -> None:
    table = Table("updates", "step", "seconds", "updates/s", "peak MB")
    with tempfile.TemporaryDirectory(prefix="taskctx-transfer-") as name, servers.postgres(None) as server:
        for count in counts:
            async with servers.databases(server, 1) as (postgres,):
                await schema.upgrade(postgres)
                folder = Path(name) / str(count)
                _write_files(folder / "files", count)
                for step in STEPS:
                    seconds, peak = await asyncio.to_thread(_in_a_fresh_process, step, folder, postgres)
                    table.add_row(f"{count:,}", step, f"{seconds:.1f}", f"{count / seconds:,.0f}", f"{peak:.0f}")
                    Console(stderr=True).print(f"{count:,} {step}: {seconds:.1f} s, {peak:.0f} MB")
    Console().print(table)


def _write_files(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for chat, part in [("long", count // 2), *((f"c{number}", count // 20) for number in range(10))]:
        with (folder / f"context_history_{chat}.json").open("w") as file:
            file.write("[\n")
            for number in range(part):
                file.write((",\n" if number else "") + entry_text(_update(number), "", strict=True))
            file.write("\n]")


def _update(number: int) -> ContextUpdate:
    at = 1_767_830_464.25 + number
    if number % 10 == 3:
        data = {"path": f"data/{number % PLACES}.csv", "operation": "read"}
        return ContextUpdate(at, "file_operation", data, {"source": "task"})
    if number % 10 == 7:
        entry = {"model_id": "gpt-4", "provider_id": "openai", "mode": "chat", "timestamp": at}
        return ContextUpdate(at, "model_usage", entry, {})
    return ContextUpdate(at, "message", f"step {number}: {'some text of a task ' * 12}", {"step": number})


def _in_a_fresh_process(step: str, folder: Path, postgres: str) -> tuple[float, float]:
    environment = os.environ | {"BENCHMARK_STEP": step, "BENCHMARK_FOLDER": str(folder), "BENCHMARK_URL": postgres}
    command = [sys.executable, "-c", "from tests.benchmarks.transfer import step; step()"]
    root = Path(__file__).parents[2]
    found = subprocess.run(command, env=environment, cwd=root, check=True, stdout=subprocess.PIPE)
    seconds, peak = json.loads(found.stdout)
    return seconds, peak


def step() -> None:
    """Do what the environment names, and print the seconds and the highest memory in MB."""
    started = time.perf_counter()
    asyncio.run(_step(os.environ["BENCHMARK_STEP"], Path(os.environ["BENCHMARK_FOLDER"]), os.environ["BENCHMARK_URL"]))
    seconds = time.perf_counter() - started
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))  # noqa: T201


async def _step(name: str, folder: Path, postgres: str) -> None:
    url = f"sqlite:///{folder}/tasks.db"
    if name == "copy to Postgres":
        assert (await copy(url, postgres)).ok
    elif name == "copy back":
        assert (await copy(postgres, f"sqlite:///{folder}/back.db")).ok
    else:
        async with open_store(url) as store:
            if name == "export":
                assert (await export(store, folder / "out", user_id="u")).ok
            elif name == "prune":
                assert (await prune(store, Retention(max_contexts=0))).by_count == 11
            else:
                assert (await import_folder(folder / "files", store, user_id="u")).ok


if __name__ == "__main__":
    main()
