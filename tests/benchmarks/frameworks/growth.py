"""How a thread of langgraph grows: a graph of 1,000 steps, whose large document stays as it is."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

import asyncpg
from langgraph.channels.delta import DeltaChannel
from langgraph.graph import END, START, StateGraph

from tests.benchmarks.frameworks.langgraph import DOCUMENT, Savers
from tests.benchmarks.frameworks.sides import TEXT
from tests.benchmarks.measuring import progress

STEPS = 1000
WINDOW = 100


def _joined(old: list[Any], writes: Any) -> list[Any]:
    return [*(old or ()), *(message for messages in writes for message in messages)]


class State(TypedDict):
    document: dict[str, Any]
    messages: Annotated[list[Any], DeltaChannel(_joined, snapshot_frequency=2 * STEPS)]
    step: int


@dataclass(frozen=True)
class Growth:
    """What a step took and wrote, at the median and on average, in the first and in the last hundred."""

    engine: str
    side: str
    first_seconds: float
    last_seconds: float
    first_bytes: float
    last_bytes: float

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))


async def measure(engine: str, side: Savers) -> Growth:
    """Run the graph over a side's saver, and look at the database's size in between."""
    moments: list[float] = []
    sizes: dict[int, int] = {}

    async def work(state: State) -> dict[str, Any]:
        if (step := state["step"]) in (0, WINDOW, STEPS - WINDOW):
            sizes[step] = await _size(side)
        moments.append(time.perf_counter())
        return {"step": step + 1, "messages": [{"role": "user", "content": f"{step}: {TEXT}"}]}

    def after(state: State) -> str:
        return "work" if state["step"] < STEPS else END

    builder = StateGraph(State)
    builder.add_node("work", work)
    builder.add_edge(START, "work")
    builder.add_conditional_edges("work", after, ["work", END])
    graph: Any = builder.compile(checkpointer=side.saver)
    config = side.thread("growth") | {"recursion_limit": STEPS + 10}
    with progress(engine, f"{STEPS:,} steps of a graph, {side.name}"):
        await graph.ainvoke({"document": DOCUMENT, "messages": [], "step": 0}, config, durability="sync")
        sizes[STEPS] = await _size(side)
    steps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    return Growth(
        engine,
        side.name,
        statistics.median(steps[:WINDOW]),
        statistics.median(steps[-WINDOW:]),
        (sizes[WINDOW] - sizes[0]) / WINDOW,
        (sizes[STEPS] - sizes[STEPS - WINDOW]) / WINDOW,
    )


async def _size(side: Savers) -> int:
    if side.engine == "sqlite":
        with contextlib.closing(sqlite3.connect(side.path)) as file:
            file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return Path(side.path).stat().st_size
    connection = await asyncpg.connect(side.url)
    try:
        return int(await connection.fetchval("SELECT pg_database_size(current_database())"))
    finally:
        await connection.close()
