"""pydantic-ai-harness: its `SqliteStepStore`, and on Postgres its `PostgresStepStore`."""

from __future__ import annotations

from typing import Any

import asyncpg
from pydantic_ai_harness.step_persistence import EventKind, RunRecord, SqliteStepStore, StepEvent, ToolEffectRecord
from pydantic_ai_harness.step_persistence._postgres import PostgresStepStore

from taskctx_sql.integrations.pydantic_ai import ContextStepStore
from tests.benchmarks.figures import OURS
from tests.benchmarks.frameworks.sides import TEXT, Framework, Side

KINDS: tuple[EventKind, ...] = (
    "model_request_started",
    "tool_call_started",
    "tool_call_completed",
    "model_request_completed",
)


class Stores(Side):
    """A step store: a session is a run, and its events are the entries; a turn also records a tool's effect."""

    store: Any

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.registered: set[str] = set()

    async def append(self, session: str, number: int) -> None:
        run_id = f"{self.prefix}-{session}"
        if session not in self.registered:
            self.registered.add(session)
            await self.store.register_run(RunRecord(run_id=run_id, conversation_id=run_id, agent_name="benchmark"))
        call: dict[str, Any] = {"tool_call_id": f"call-{number}", "tool_name": "search"}
        for kind in KINDS:
            of_call = call if kind.startswith("tool") else {}
            event = StepEvent(run_id=run_id, kind=kind, step_index=number, metadata={"note": TEXT}, **of_call)
            await self.store.append_event(event)
            if kind == "tool_call_started":
                await self.store.record_tool_effect(ToolEffectRecord(run_id=run_id, status="started", **call))
            elif kind == "tool_call_completed":
                await self.store.record_tool_effect(ToolEffectRecord(run_id=run_id, status="completed", **call))

    async def all(self, session: str) -> int:
        return len(await self.store.list_events(run_id=f"{self.prefix}-{session}"))


class Ours(Stores):
    name = OURS

    async def open(self) -> None:
        self.store = ContextStepStore(await self.our_store())


class OwnSqlite(Stores):
    name = "SqliteStepStore"

    async def open(self) -> None:
        self.store = SqliteStepStore(database=self.path)


class OwnPostgres(Stores):
    name = "PostgresStepStore"

    async def open(self) -> None:
        pool: Any = await asyncpg.create_pool(self.url, min_size=10, max_size=10)
        self.closing.push_async_callback(pool.close)
        self.store = PostgresStepStore(pool)


FRAMEWORKS = [
    Framework(
        "pydantic_ai",
        Ours,
        {"sqlite": [OwnSqlite], "postgres": [OwnPostgres]},
        works=("append", "all", "in flight"),
        fills_by_turns=True,
    ),
]
