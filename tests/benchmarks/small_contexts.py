"""Removing and copying many small contexts, beside the same done context by context."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from taskctx_sql import ContextKey, Store, TaskContext, open_store
from taskctx_sql.maintenance import prune
from taskctx_sql.model import Retention
from taskctx_sql.transfer import copy
from tests.benchmarks.figures import OURS, Asked, Results
from tests.benchmarks.measuring import Workload, measure, timed
from tests.benchmarks.sides import SAMPLE

ONE_BY_ONE = "one by one"
BESIDE: Asked = {ONE_BY_ONE: {}}
UPDATES = 7
AT_ONCE = 50


@dataclass(frozen=True)
class Places:
    """A store, where its contexts go to, and who removes and copies them."""

    name: str
    source: Store
    target: Store

    def let_go(self) -> None:
        """It holds nothing."""

    async def fill(self, count: int) -> str:
        """Make so many contexts of a new user."""
        user, turn = uuid.uuid4().hex, asyncio.Semaphore(AT_ONCE)

        async def save(chat: int) -> None:
            async with turn:
                context = TaskContext({"user_id": user, "chat_id": chat}, store=self.source)
                for update in SAMPLE[:UPDATES]:
                    context.add_context_update(*update)
                await context.save()

        await asyncio.gather(*map(save, range(count)))
        return user

    async def prune(self, user: str, count: int) -> None:
        if self.name == OURS:
            assert (await prune(self.source, Retention(max_contexts=0), user_id=user)).by_count == count
            return
        for chat in range(count):
            assert await self.source.delete(ContextKey(user, str(chat)))

    async def copy(self, user: str, count: int) -> None:
        if self.name == OURS:
            assert (await copy(self.source.database_url, self.target.database_url, user_id=user)).ok
            return
        for chat in range(count):
            context = TaskContext({"user_id": user, "chat_id": chat}, store=self.source)
            await context.load()
            copied = TaskContext({"user_id": user, "chat_id": chat}, store=self.target)
            copied.context_history.extend(context.context_history)
            await copied.save()


def workloads(count: int) -> list[Workload[Places]]:
    async def measure_prune(places: Places) -> list[float]:
        return [await timed(places.prune(await places.fill(count), count))]

    async def measure_copy(places: Places) -> list[float]:
        return [await timed(places.copy(await places.fill(count), count))]

    return [
        Workload(f"prune of {count:,} small contexts", "rate", measure_prune, count, BESIDE),
        Workload(f"copy of {count:,} x {UPDATES} updates", "rate", measure_copy, count, BESIDE),
    ]


async def compare(engine: str, source_url: str, target_url: str, results: Results, *, quick: bool) -> None:
    """Measure what is stored at one URL, and its copies at another."""
    async with _opened(source_url) as source, _opened(target_url) as target:
        sides = [Places(name, source, target) for name in (OURS, ONE_BY_ONE)]
        for workload in workloads(100 if quick else 1_000):
            await measure(engine, sides, [workload], 1 if quick else 3, results)


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Store]:
    async with open_store(url) as store:
        yield store
