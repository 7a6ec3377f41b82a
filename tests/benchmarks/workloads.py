"""What is asked of each store: saves, loads, many contexts at once, and what the event loop feels of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

from tests.benchmarks.figures import HOP, LIMIT, PEER, Asked, Results
from tests.benchmarks.measuring import Workload, timed
from tests.benchmarks.sides import Side

# A history is made in pieces of this many updates, so that no transaction is larger than a program's would be.
CHUNK = 100_000

STALL = {"sqlite": 0.015, "postgres": 0.015}


class History:
    """A chat with so many updates, made once for each side that is asked to work on it."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.chats: dict[Side, int] = {}

    async def make(self, side: Side) -> None:
        if side not in self.chats:
            self.chats[side] = chat = side.new_chat()
            for start in range(0, self.length, CHUNK):
                side.add(chat, min(CHUNK, self.length - start))
                await side.save(chat)


def step_save(history: History, repeat: int, asked: Asked | None = None, *, trackers: bool = False) -> Workload[Side]:
    async def step(side: Side) -> None:
        chat = history.chats[side]
        side.add(chat, 1, trackers=trackers)
        await side.save(chat)

    async def measure(side: Side) -> list[float]:
        return [await timed(step(side)) for _ in range(repeat)]

    name = f"step save{' and trackers' if trackers else ''} at {history.length:,}"
    return Workload(name, "time", measure, asked=asked or {LIMIT: {}}, prepare=history.make)


def bulk_save(count: int, repeat: int, asked: Asked) -> Workload[Side]:
    async def save(side: Side) -> None:
        chat = side.new_chat()
        side.add(chat, count)
        await side.save(chat)

    async def measure(side: Side) -> list[float]:
        return [await timed(save(side)) for _ in range(repeat)]

    return Workload(f"bulk save of {count:,}", "rate", measure, count, asked)


def load(history: History, repeat: int, asked: Asked, *, touch: bool) -> Workload[Side]:
    async def measure(side: Side) -> list[float]:
        return [await timed(side.load(history.chats[side], touch=touch)) for _ in range(repeat)]

    name = f"load of {history.length:,}, {'touched' if touch else 'untouched'}"
    return Workload(name, "rate", measure, history.length, asked, history.make)


def load_newest(history: History, count: int, asked: Asked) -> Workload[Side]:
    async def measure(side: Side) -> list[float]:
        return [await timed(side.load(history.chats[side], touch=True, limit=count)) for _ in range(20)]

    return Workload(f"last {count} of {history.length:,}", "rate", measure, count, asked, history.make)


def many_contexts(contexts: int, saves: int, at_once: int, asked: Asked) -> Workload[Side]:
    async def work(side: Side) -> None:
        turn = asyncio.Semaphore(at_once)

        async def task() -> None:
            async with turn:
                chat = side.new_chat()
                for _ in range(saves):
                    side.add(chat, 1)
                    await side.save(chat)

        await asyncio.gather(*(task() for _ in range(contexts)))

    async def measure(side: Side) -> list[float]:
        return [await timed(work(side))]

    return Workload(f"{contexts} contexts x {saves}, {at_once} in flight", "rate", measure, contexts * saves, asked)


def stall_in_save(count: int) -> Workload[Side]:
    async def measure(side: Side) -> list[float]:
        chat = side.new_chat()
        side.add(chat, count)
        return [await _longest_stall(side.save(chat))]

    return Workload(f"longest stall in a save of {count:,}", "stall", measure, asked={LIMIT: STALL})


def stall_in_load(history: History) -> Workload[Side]:
    async def measure(side: Side) -> list[float]:
        return [await _longest_stall(side.load(history.chats[side], touch=False))]

    name = f"longest stall in a load of {history.length:,}"
    return Workload(name, "stall", measure, asked={LIMIT: STALL}, prepare=history.make)


async def _longest_stall(work: Awaitable[object]) -> float:
    """Return the longest time that the event loop left another task waiting."""
    longest = 0.0
    ended = False

    async def tick() -> None:
        nonlocal longest
        before = time.perf_counter()
        while not ended:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest = max(longest, now - before)
            before = now

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    try:
        await work
    finally:
        ended = True
        await ticking
    return longest


def workloads(quick: bool) -> list[list[Workload[Side]]]:
    """All of them, those together that are compared with each other, each with what it should reach."""
    few, many = (1, 10) if quick else (3, 100)
    ten_thousand, million = History(10_000), History(1_000_000)
    short, long = ([0, 10_000], []) if quick else ([0, 1_000, 10_000, 100_000], [million])
    step_asked: dict[int, Asked] = {10_000: {LIMIT: {"postgres": 0.56}, HOP: {"sqlite": 1.25}, PEER: {}}}
    steps = [step_save(history, many, step_asked.get(history.length)) for history in [*map(History, short), *long]]
    newest = [load_newest(history, 100, {LIMIT: {"sqlite": 0.65, "postgres": 0.9}}) for history in long]
    # Fewer saves, for the peer takes seconds for these.
    beside_peer = [] if quick else [many_contexts(200, 4, 50, {PEER: {"sqlite": 100.0, "postgres": 50.0}})]
    return [
        steps,
        [step_save(History(10_000), many, trackers=True)],
        [bulk_save(10_000, few, {LIMIT: {"sqlite": 1.05, "postgres": 1.7}, PEER: {}})],
        [load(ten_thousand, few, {LIMIT: {"sqlite": 1.1, "postgres": 0.95}, PEER: {}}, touch=True)],
        [load(ten_thousand, few, {LIMIT: {"sqlite": 3.6, "postgres": 2.7}}, touch=False)],
        [load_newest(ten_thousand, 100, {LIMIT: {"sqlite": 0.65, "postgres": 0.9}, PEER: {}}), *newest],
        [many_contexts(200, 4 if quick else 20, 50, {LIMIT: {"sqlite": 3.5, "postgres": 5.0}})],
        beside_peer,
        [stall_in_save(10_000)],
        [stall_in_load(ten_thousand)],
    ]


def compare_lengths(engine: str, results: Results) -> None:
    """Compare ours of a long history with ours of a short one, which were measured in turns."""
    results.compare_with_own(engine, "step save at 1,000,000", "step save at 0", "ours at 0", "time", 1.15)
    results.compare_with_own(engine, "last 100 of 1,000,000", "last 100 of 10,000", "ours of 10,000", "rate", 1.0)
