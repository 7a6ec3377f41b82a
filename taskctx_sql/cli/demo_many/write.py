"""Writing many tasks to a store."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice
from random import Random
from typing import Final

from taskctx_sql.cli.demo_many.script import Ending, Script, TaskPlan
from taskctx_sql.cli.demo_many.work import MIGRATION, USERS, WORK, Work
from taskctx_sql.model import ContextKey
from taskctx_sql.stores import ContextStore

TASKS: Final = 1_000
DAYS: Final = 60
_DAY: Final = 86_400.0
# The tasks that are written at the same time.
_AT_ONCE: Final = 50
# How tasks end, and how many of a hundred do so.
_ENDS: Final[Mapping[Ending, int]] = {"completed": 87, "failed": 7, "cancelled": 3, "unfinished": 3}
# From so many tasks on, one of them is large.
_MANY: Final = 500
# The tasks that are at work now.
_RUNNING: Final = 3


@dataclass(frozen=True, slots=True)
class Written:
    """How much was written: tasks, users, saves and updates, over how many days."""

    tasks: int
    users: int
    saves: int
    updates: int
    days: int


async def write_many(
    store: ContextStore,
    tasks: int,
    now: float,
    *,
    seed: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> Written:
    """Write tasks of the last sixty days to a store that has none of them yet.

    The same arguments write the same tasks.

    Args:
        store: An open database.
        tasks: How many.
        now: The end of the sixty days, seconds since the epoch, UTC.
        seed: Where the random numbers begin.
        progress: Called with the number of tasks that are written.
    """
    plans = _plans(tasks, now, seed)
    users: set[str] = set()
    done = saves = updates = 0

    async def write_one(plan: TaskPlan) -> None:
        nonlocal done, saves, updates
        for delta in Script(plan, seed):
            await store.save(delta)
            saves, updates = saves + 1, updates + len(delta.updates)
        users.add(plan.key.user_id)
        done += 1
        progress(done)

    async def write_in_turn() -> None:
        for plan in plans:
            await write_one(plan)

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(write_in_turn())
    return Written(done, len(users), saves, updates, DAYS)


def _plans(tasks: int, now: float, seed: int) -> Iterator[TaskPlan]:
    """Yield the plans of so many tasks, each parent before its sub-tasks."""
    random = Random(seed)
    families = (_family(plan, seed, random) for plan in _roots(tasks, now, random))
    yield from islice(chain.from_iterable(families), tasks)


def _roots(tasks: int, now: float, random: Random) -> Iterator[TaskPlan]:
    yesterday = now - now % _DAY - _DAY
    if tasks >= _MANY:
        yield _plan(0, MIGRATION, yesterday + 2 * 3_600, now, "completed", random)
    kinds = random.choices(WORK, [work.share for work in WORK], k=tasks)
    ends = random.choices(list(_ENDS), list(_ENDS.values()), k=tasks)
    for number, (work, end) in enumerate(zip(kinds, ends, strict=True), 1):
        if number <= _RUNNING:
            yield _plan(number, work, now - random.uniform(20, 90), now, "unfinished", random)
        else:
            yield _plan(number, work, _moment(now, random), now, end, random)


def _moment(now: float, random: Random) -> float:
    """Return a time of the sixty days: more of them lately, and few in nights and on weekends."""
    while True:
        at = now - DAYS * _DAY * math.pow(random.random(), 1.4) - 3_600
        hour, weekday = at % _DAY / 3_600, int(at // _DAY + 3) % 7
        busy = 1.0 if 7 <= hour < 19 else 0.12
        if random.random() < busy * (0.25 if weekday >= 5 else 1.0):
            return at


def _plan(number: int, work: Work, starts_at: float, until: float, ends: Ending, random: Random) -> TaskPlan:
    subject = random.choice(work.subjects)
    key = ContextKey(random.choice(USERS), f"task-{number:05}")
    return TaskPlan(key, work, subject, starts_at, until, ends, work.title.replace("{subject}", subject))


def _family(plan: TaskPlan, seed: int, random: Random) -> Iterator[TaskPlan]:
    """Yield a plan, and those of its sub-tasks."""
    yield plan
    if not plan.work.sub_task or random.random() > 0.45:
        return
    script = Script(plan, seed)
    for _ in script:
        pass
    for number, at in enumerate(script.sub_tasks * random.randint(1, 3), 1):
        key = ContextKey(plan.key.user_id, f"{plan.key.chat_id}.{number}")
        title = plan.work.sub_task.replace("{subject}", plan.subject)
        child = replace(plan, key=key, starts_at=at + number, title=title, parent=plan.key.chat_id, ends="completed")
        shorter = replace(plan.work, steps=(2, 5), sub_task="Sources" if random.random() < 0.2 else "")
        yield from _family(replace(child, work=shorter), seed, random)
