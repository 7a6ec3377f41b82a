"""How it is measured: the sides take turns, so that a noisy machine is noisy for all of them."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import click

from tests.benchmarks.figures import LIMIT, OURS, Asked, By, Figure, Results


class Measurable(Protocol):
    @property
    def name(self) -> str:
        """What the table calls it."""

    def let_go(self) -> None:
        """Drop what it holds in memory."""


S = TypeVar("S", bound=Measurable)


@dataclass(frozen=True)
class Workload(Generic[S]):
    """What is measured.

    Attributes:
        name: What it is called in the table.
        by: What its ratio is of.
        measure: Does it, and returns the seconds that each time took.
        pieces: How many rows, saves or calls are in each.
        asked: Beside which other sides we do it, and the ratio that is asked of us there.
        prepare: What each side needs before; not measured.
    """

    name: str
    by: By
    measure: Callable[[S], Awaitable[list[float]]]
    pieces: int = 1
    asked: Asked = field(default_factory=lambda: {LIMIT: {}})
    prepare: Callable[[S], Awaitable[None]] | None = None


async def measure(
    engine: str, sides: Sequence[S], workloads: Sequence[Workload[S]], rounds: int, results: Results
) -> None:
    """Measure workloads together: each side at each of them, and again, so often."""
    turns = [(workload, side) for workload in workloads for side in sides if side.name in (OURS, *workload.asked)]
    values: dict[tuple[str, str], list[float]] = {(workload.name, side.name): [] for workload, side in turns}
    with progress(engine, ", ".join(workload.name for workload in workloads)):
        await _in_turns(turns, rounds, values)
    for side in sides:
        side.let_go()
    for workload in workloads:
        figures = [
            Figure(engine, workload.name, side.name, values[workload.name, side.name], workload.pieces)
            for where, side in turns
            if where is workload
        ]
        results.add(figures, workload.by, workload.asked)


async def _in_turns(
    turns: Sequence[tuple[Workload[S], S]], rounds: int, values: dict[tuple[str, str], list[float]]
) -> None:
    for workload, side in turns:
        if workload.prepare is not None:
            await workload.prepare(side)
    # What was prepared is on the disk before anything waits for the disk.
    os.sync()
    # One round more than is counted: in the first, caches and connections are cold.
    for number in range(rounds + 1):
        for workload, side in turns if number % 2 else reversed(turns):
            gc.collect()
            found = await workload.measure(side)
            if number > 0:
                values[workload.name, side.name] += found


async def timed(work: Awaitable[Any]) -> float:
    """Return the seconds that it took."""
    started = time.perf_counter()
    await work
    return time.perf_counter() - started


@contextmanager
def progress(engine: str, what: str) -> Iterator[None]:
    """Say on the error stream what is under way, and how long it took."""
    started = time.perf_counter()
    click.echo(f"{engine:9} {what:42}", nl=False, err=True)
    try:
        yield
    finally:
        click.echo(f"{time.perf_counter() - started:7.1f} s", err=True)
