"""langgraph: its checkpoint savers and its stores, for SQLite and for Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import aiosqlite
from langgraph.checkpoint.base import create_checkpoint, empty_checkpoint
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.store.postgres.aio import AsyncPostgresStore
from langgraph.store.sqlite.aio import AsyncSqliteStore
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from taskctx_sql.integrations.langgraph import ContextItemStore, ContextSaver
from tests.benchmarks.figures import OURS
from tests.benchmarks.frameworks.sides import TEXT, Framework, Side

# How many items are put at once where it is not measured.
TOGETHER = 100
# What a step leaves as it was: 20 kB.
DOCUMENT = {"title": "figures", "paragraphs": [f"{number}: {TEXT}" for number in range(60)]}


class Savers(Side):
    """A saver: a session is a thread, and its checkpoints are the entries. A step changes two of three channels."""

    saver: Any
    entries_a_turn = 1

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.newest: dict[str, dict[str, Any]] = {}

    def thread(self, session: str) -> dict[str, Any]:
        return {"configurable": {"thread_id": f"{self.prefix}-{session}", "checkpoint_ns": ""}}

    async def append(self, session: str, number: int) -> None:
        for write in self.step(session, number):
            await write

    async def fill(self, session: str, entries: int) -> None:
        for number in range(entries):
            await asyncio.gather(*self.step(session, number))

    def step(self, session: str, number: int) -> list[Coroutine[Any, Any, None]]:
        """Return the calls of a step: the writes of its task, and the checkpoint after it."""
        config = self.newest.get(session)
        version = f"{number + 1:032}.0"
        changed = {"step": version, "notes": version}
        notes = [f"{number - place}: {TEXT}" for place in range(4)]
        calls = []
        if config is None:
            config = self.thread(session)
            changed["document"] = version
        else:
            calls = [self.saver.aput_writes(config, [("step", number), ("notes", notes)], f"task-{number}")]
        # In the format that graphs of today write.
        checkpoint = create_checkpoint(empty_checkpoint(), None, number) | {"v": 4}
        checkpoint["channel_values"] = {"document": DOCUMENT, "step": number, "notes": notes}
        checkpoint["channel_versions"] = {"document": f"{1:032}.0", **changed}
        metadata = {"source": "loop", "step": number, "parents": {}}

        async def put() -> None:
            self.newest[session] = await self.saver.aput(config, checkpoint, metadata, changed)

        return [*calls, put()]

    async def last(self, session: str, count: int) -> int:
        return len([found async for found in self.saver.alist(self.thread(session), limit=count)])

    async def latest(self, session: str) -> int:
        found = await self.saver.aget_tuple(self.thread(session))
        return len({found.checkpoint["id"]})

    async def all(self, session: str) -> int:
        return len([found async for found in self.saver.alist(self.thread(session))])

    def let_go(self) -> None:
        """The newest checkpoints stay: a thread continues from them."""


class OurSaver(Savers):
    name = OURS

    async def open(self) -> None:
        self.saver = ContextSaver(await self.our_store())


class OwnSqliteSaver(Savers):
    name = "AsyncSqliteSaver"

    async def open(self) -> None:
        self.saver = await self.closing.enter_async_context(AsyncSqliteSaver.from_conn_string(self.path))
        await self.saver.setup()


def _pool(url: str) -> AsyncConnectionPool[Any]:
    options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    return AsyncConnectionPool(url, min_size=10, max_size=10, kwargs=options, open=False)


class OwnPostgresSaver(Savers):
    name = "AsyncPostgresSaver"

    async def open(self) -> None:
        self.saver = AsyncPostgresSaver(await self.closing.enter_async_context(_pool(self.url)))
        await self.saver.setup()


class Stores(Side):
    """A store: a session is a namespace, and its items are the entries."""

    store: Any
    entries_a_turn = 1

    def namespace(self, session: str) -> tuple[str, ...]:
        return ("benchmark", self.prefix, session)

    async def append(self, session: str, number: int) -> None:
        await self.store.aput(self.namespace(session), f"item-{number:06}", {"number": number, "text": TEXT})

    async def fill(self, session: str, entries: int) -> None:
        for start in range(0, entries, TOGETHER):
            numbers = range(start, min(start + TOGETHER, entries))
            await asyncio.gather(*(self.append(session, number) for number in numbers))

    async def last(self, session: str, count: int) -> int:
        return len(await self.store.asearch(self.namespace(session), limit=count))

    async def latest(self, session: str) -> int:
        return len([await self.store.aget(self.namespace(session), "item-000000")])

    async def all(self, session: str) -> int:
        return len(await self.store.asearch(self.namespace(session), limit=1_000_000))


class OurStore(Stores):
    name = OURS

    async def open(self) -> None:
        self.store = ContextItemStore(await self.our_store())


class OwnSqliteStore(Stores):
    name = "AsyncSqliteStore"

    async def open(self) -> None:
        connection = await self.closing.enter_async_context(aiosqlite.connect(self.path, isolation_level=None))
        self.store = await self.closing.enter_async_context(AsyncSqliteStore(connection))
        await self.store.setup()


class OwnPostgresStore(Stores):
    name = "AsyncPostgresStore"

    async def open(self) -> None:
        pool = await self.closing.enter_async_context(_pool(self.url))
        self.store = await self.closing.enter_async_context(AsyncPostgresStore(pool))
        await self.store.setup()


FRAMEWORKS = [
    Framework(
        "langgraph saver",
        OurSaver,
        {"sqlite": [OwnSqliteSaver], "postgres": [OwnPostgresSaver]},
        entries=1_000,
        works=("append", "last", "latest", "all", "in flight"),
        fills_by_turns=True,
        grows=True,
    ),
    Framework(
        "langgraph store",
        OurStore,
        {"sqlite": [OwnSqliteStore], "postgres": [OwnPostgresStore]},
        works=("append", "last", "latest", "all", "in flight"),
        fills_by_turns=True,
    ),
]
