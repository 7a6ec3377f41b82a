"""What a context costs in memory, beside a plain list of dataclasses, as the original is: no store is asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from taskctx_sql import TaskContext
from tests.benchmarks.data import updates
from tests.benchmarks.figures import OURS, Asked
from tests.benchmarks.measuring import Workload
from tests.benchmarks.plain import PlainContext

PLAIN = "a plain list"
SAMPLE = updates(10_000)

# Characters of data: about half of the updates are kept.
ROOM = 1_700_000


class Context(Protocol):
    """What both contexts can do."""

    def add_context_update(self, update_type: str, data: Any, metadata: dict[str, Any] | None = None) -> None: ...
    def optimize_context(self, max_size: int = ...) -> bool: ...
    def to_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Maker:
    """A side that makes contexts."""

    name: str
    new_context: Callable[[], Context]

    def let_go(self) -> None:
        """It holds nothing."""


def makers(folder: Path) -> list[Maker]:
    return [
        Maker(OURS, lambda: TaskContext({"user_id": "u", "chat_id": "c"}, folder)),
        Maker(PLAIN, PlainContext),
    ]


def workloads(quick: bool) -> list[Workload[Maker]]:
    repeat = 1 if quick else 5

    def workload(name: str, work: Callable[[Context], object], asked: Asked, *, calls: int = 1) -> Workload[Maker]:
        async def measure(maker: Maker) -> list[float]:
            return [_timed(work, maker.new_context() if calls > 1 else _full(maker)) / calls for _ in range(repeat)]

        return Workload(name, "time", measure, asked=asked)

    return [
        workload("add_context_update", _fill, {PLAIN: {"memory": 1.5}}, calls=len(SAMPLE)),
        workload("optimize_context of 10,000", lambda context: context.optimize_context(ROOM), {PLAIN: {}}),
        workload("to_dict of 10,000", lambda context: context.to_dict(), {PLAIN: {}}),
    ]


def _full(maker: Maker) -> Context:
    context = maker.new_context()
    _fill(context)
    return context


def _fill(context: Context) -> None:
    for update in SAMPLE:
        context.add_context_update(*update)


def _timed(work: Callable[[Context], object], context: Context) -> float:
    started = time.perf_counter()
    work(context)
    return time.perf_counter() - started
