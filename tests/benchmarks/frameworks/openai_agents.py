"""openai-agents: its `SQLAlchemySession`, and on SQLite its `SQLiteSession`, too."""

from __future__ import annotations

from typing import Any

from agents.extensions.memory import SQLAlchemySession
from agents.memory import SQLiteSession
from sqlalchemy.ext.asyncio import create_async_engine

from taskctx_sql.integrations.openai_agents import ContextSession
from tests.benchmarks.figures import OURS
from tests.benchmarks.frameworks.sides import TEXT, Framework, Side


def turn(number: int) -> list[Any]:
    return [
        {"role": "user", "content": f"{number}: {TEXT}"},
        {"type": "function_call", "call_id": f"call-{number}", "name": "search", "arguments": f'{{"query": "{TEXT}"}}'},
        {"type": "function_call_output", "call_id": f"call-{number}", "output": TEXT},
        {"role": "assistant", "content": f"{number}: {TEXT}"},
    ]


class Sessions(Side):
    """ContextSession objects, one a session, as a program keeps them."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.sessions: dict[str, Any] = {}

    def new(self, session: str) -> Any:
        raise NotImplementedError

    def session(self, session: str) -> Any:
        if session not in self.sessions:
            self.sessions[session] = self.new(f"{self.prefix}-{session}")
        return self.sessions[session]

    async def append(self, session: str, number: int) -> None:
        await self.session(session).add_items(turn(number))

    async def fill(self, session: str, entries: int) -> None:
        await self.session(session).add_items([item for number in range(entries // 4) for item in turn(number)])

    async def last(self, session: str, count: int) -> int:
        return len(await self.session(session).get_items(count))

    async def all(self, session: str) -> int:
        return len(await self.session(session).get_items())

    def let_go(self) -> None:
        self.sessions.clear()


class Ours(Sessions):
    name = OURS

    async def open(self) -> None:
        self.store = await self.our_store()

    def new(self, session: str) -> Any:
        return ContextSession(session, self.store)


class Own(Sessions):
    name = "SQLAlchemySession"

    async def open(self) -> None:
        self.sql_engine = create_async_engine(self.driver_url(sqlite="aiosqlite", postgresql="asyncpg"))
        self.closing.push_async_callback(self.sql_engine.dispose)
        await SQLAlchemySession("nobody", engine=self.sql_engine, create_tables=True).get_items(1)

    def new(self, session: str) -> Any:
        return SQLAlchemySession(session, engine=self.sql_engine)


class OwnSqlite(Sessions):
    name = "SQLiteSession"

    async def open(self) -> None:
        """Each session opens the file itself."""

    def new(self, session: str) -> Any:
        return SQLiteSession(session, self.path)

    async def close(self) -> None:
        self.let_go()
        await super().close()

    def let_go(self) -> None:
        for session in self.sessions.values():
            session.close()
        super().let_go()


FRAMEWORKS = [Framework("openai_agents", Ours, {"sqlite": [OwnSqlite, Own], "postgres": [Own]})]
