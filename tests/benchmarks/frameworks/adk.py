"""google-adk: its `DatabaseSessionService`."""

from __future__ import annotations

from typing import Any

from google.adk.events import Event
from google.adk.sessions import DatabaseSessionService
from google.adk.sessions.base_session_service import GetSessionConfig
from google.genai import types

from taskctx_sql.integrations.adk import ContextSessionService
from tests.benchmarks.figures import OURS
from tests.benchmarks.frameworks.sides import TEXT, Framework, Side


def turn(number: int) -> list[Event]:
    call = types.FunctionCall(id=f"call-{number}", name="search", args={"query": TEXT})
    result = types.FunctionResponse(id=f"call-{number}", name="search", response={"result": TEXT})
    said = (
        ("user", types.Part(text=f"{number}: {TEXT}")),
        ("agent", types.Part(function_call=call)),
        ("agent", types.Part(function_response=result)),
        ("agent", types.Part(text=f"{number}: {TEXT}")),
    )
    return [
        Event(author=author, invocation_id=f"i-{number}", content=types.Content(role=author, parts=[part]))
        for author, part in said
    ]


class Services(Side):
    """A session service, and the sessions that it returned, without the events that they gather in memory."""

    service: Any

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.sessions: dict[str, Any] = {}

    def identity(self, session: str) -> dict[str, str]:
        return {"app_name": "benchmark", "user_id": f"u-{session}", "session_id": f"{self.prefix}-{session}"}

    async def append(self, session: str, number: int) -> None:
        if session not in self.sessions:
            self.sessions[session] = await self.service.create_session(**self.identity(session))
        for event in turn(number):
            await self.service.append_event(self.sessions[session], event)
        self.sessions[session].events.clear()

    async def last(self, session: str, count: int) -> int:
        newest = GetSessionConfig(num_recent_events=count)
        return len((await self.service.get_session(**self.identity(session), config=newest)).events)

    async def all(self, session: str) -> int:
        return len((await self.service.get_session(**self.identity(session))).events)

    def let_go(self) -> None:
        self.sessions.clear()


class Ours(Services):
    name = OURS

    async def open(self) -> None:
        self.service = ContextSessionService(await self.our_store())


class Own(Services):
    name = "DatabaseSessionService"

    async def fill(self, session: str, entries: int) -> None:
        """Write its rows as it does, in one transaction, since one for each event would take minutes."""
        made = await self.service.create_session(**self.identity(session))
        row = self.service._get_schema_classes().StorageEvent
        events = [event for number in range(entries // 4) for event in turn(number)]
        async with self.service._rollback_on_exception_session() as rows:
            rows.add_all([row.from_event(made, event) for event in events])
            await rows.commit()
        self.sessions[session] = made

    async def open(self) -> None:
        self.service = DatabaseSessionService(self.driver_url(sqlite="aiosqlite", postgresql="asyncpg"))
        self.closing.push_async_callback(self.service.close)


FRAMEWORKS = [Framework("adk", Ours, {"sqlite": [Own], "postgres": [Own]}, fills_by_turns=True)]
