"""What each side does: the same work, of which each workload checks that it was done."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable

from tests.benchmarks.figures import OURS
from tests.benchmarks.frameworks.sides import Framework, Side
from tests.benchmarks.measuring import Workload, timed

TURNS = 3
NEWEST = 20
LONG = "long"
# How often a short work is done in each round.
TIMES = 20
# What is asked of us beside the framework's own store: how many times its rate.
ASKED = 2.0
ASKED_IN_FLIGHT = 10.0


def workloads(framework: Framework, engine: str, own: list[str], notes: set[str]) -> list[Workload[Side]]:
    """Return what is measured of a framework on an engine, beside the own stores that are named.

    Of sessions in flight that an own store could not serve, a note says why.
    """
    entries, count = framework.entries, {"entries": 0}
    where = f"{framework.name}, {engine}"

    async def append(side: Side) -> list[float]:
        count["entries"] += 1
        return [await timed(side.append(LONG, entries + count["entries"] * TIMES + turn)) for turn in range(TIMES)]

    async def last(side: Side) -> list[float]:
        return [await _checked(side.last(LONG, NEWEST), NEWEST) for _ in range(TIMES)]

    async def latest(side: Side) -> list[float]:
        return [await _checked(side.latest(LONG), 1) for _ in range(TIMES)]

    async def everything(side: Side) -> list[float]:
        return [await _checked(side.all(LONG), entries)]

    async def in_flight(side: Side) -> list[float]:
        names = [f"{number}-{uuid.uuid4().hex[:8]}" for number in range(framework.sessions)]
        started = time.perf_counter()
        ended = await asyncio.gather(*(_turns(side, name) for name in names), return_exceptions=True)
        taken = time.perf_counter() - started
        failed = [error for error in ended if error is not None]
        if failed and side.name == OURS:
            raise failed[0]
        if failed:
            reason = str(failed[0]).splitlines()[0]
            notes.add(f"{where}: {side.name} failed for some of the sessions in flight: {reason}")
            return [taken]
        assert await side.all(names[0]) == TURNS * side.entries_a_turn
        return [taken]

    named: dict[str, tuple[str, Callable[[Side], Awaitable[list[float]]], int]] = {
        "append": (f"append a turn at {entries:,}", append, 1),
        "last": (f"last {NEWEST} of {entries:,}", last, 1),
        "latest": (f"the latest of {entries:,}", latest, 1),
        "all": (f"all of {entries:,}", everything, entries),
        "in flight": (
            f"{framework.sessions} sessions x {TURNS} turns in flight",
            in_flight,
            framework.sessions * TURNS,
        ),
    }
    found: list[Workload[Side]] = []
    for work in framework.works:
        name, measure, pieces = named[work]
        asked = ASKED_IN_FLIGHT if work == "in flight" else ASKED
        beside = {side: {} if side in framework.unasked else {where: asked} for side in own}
        found.append(Workload(name, "rate", measure, pieces, beside))
    return found


async def _turns(side: Side, session: str) -> None:
    for number in range(TURNS):
        await side.append(session, number)


async def _checked(work: Awaitable[int], at_least: int) -> float:
    started = time.perf_counter()
    found = await work
    taken = time.perf_counter() - started
    if found < at_least:
        raise AssertionError(f"{found} were loaded, {at_least} expected")
    return taken
