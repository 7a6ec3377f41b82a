"""a2a-sdk: its `DatabaseTaskStore`, which writes a task's whole history at each save."""

from __future__ import annotations

from typing import Any

from a2a.server.context import ServerCallContext
from a2a.server.tasks import DatabaseTaskStore
from a2a.types import Message, Part, Role, Task, TaskState, TaskStatus
from sqlalchemy.ext.asyncio import create_async_engine

from taskctx_sql.integrations.a2a import ContextTaskStore
from tests.benchmarks.figures import OURS
from tests.benchmarks.frameworks.sides import TEXT, Framework, Side

ROLES = (Role.ROLE_USER, Role.ROLE_AGENT, Role.ROLE_AGENT, Role.ROLE_AGENT)


def turn(number: int) -> list[Message]:
    return [
        Message(message_id=f"m-{number}-{place}", role=role, parts=[Part(text=f"{number}: {TEXT}")])
        for place, role in enumerate(ROLES)
    ]


class Stores(Side):
    """A task store, and the tasks that are under way: a session is a task, and its history are the entries."""

    store: Any

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.tasks: dict[str, Task] = {}
        self.context = ServerCallContext()

    def task(self, session: str) -> Task:
        if session not in self.tasks:
            status = TaskStatus(state=TaskState.TASK_STATE_WORKING)
            self.tasks[session] = Task(id=f"{self.prefix}-{session}", context_id=self.prefix, status=status)
        return self.tasks[session]

    async def append(self, session: str, number: int) -> None:
        task = self.task(session)
        task.history.extend(turn(number))
        await self.store.save(task, self.context)

    async def fill(self, session: str, entries: int) -> None:
        task = self.task(session)
        for number in range(entries // 4 - 1):
            task.history.extend(turn(number))
        await self.append(session, entries // 4)

    async def all(self, session: str) -> int:
        task = await self.store.get(f"{self.prefix}-{session}", self.context)
        return len(task.history)

    def let_go(self) -> None:
        self.tasks.clear()


class Ours(Stores):
    name = OURS

    async def open(self) -> None:
        self.store = ContextTaskStore(await self.our_store())


class Own(Stores):
    name = "DatabaseTaskStore"

    async def open(self) -> None:
        engine = create_async_engine(self.driver_url(sqlite="aiosqlite", postgresql="asyncpg"))
        self.closing.push_async_callback(engine.dispose)
        self.store = DatabaseTaskStore(engine)
        await self.store.initialize()


FRAMEWORKS = [
    Framework("a2a", Ours, {"sqlite": [Own], "postgres": [Own]}, works=("append", "all", "in flight")),
]
