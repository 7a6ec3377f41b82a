"""claude-agent-sdk: it has no SQL store, so ours is beside its in-memory one, and beside JSONL files."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from claude_agent_sdk import InMemorySessionStore

from taskctx_sql.integrations.claude_agent_sdk import ContextSessionStore
from tests.benchmarks.figures import OURS
from tests.benchmarks.frameworks.sides import TEXT, Framework, Side


def turn(prefix: str, number: int) -> list[Any]:
    call = {"type": "tool_use", "id": f"call-{number}", "name": "search", "input": {"query": TEXT}}
    result = {"type": "tool_result", "tool_use_id": f"call-{number}", "content": TEXT}
    said: tuple[tuple[str, Any], ...] = (
        ("user", f"{number}: {TEXT}"),
        ("assistant", [call]),
        ("user", [result]),
        ("assistant", [{"type": "text", "text": f"{number}: {TEXT}"}]),
    )
    return [
        {
            "type": role,
            "uuid": f"{prefix}-{number}-{place}",
            "sessionId": prefix,
            "timestamp": "2026-01-01T00:00:00.000Z",
            "message": {"role": role, "content": content},
        }
        for place, (role, content) in enumerate(said)
    ]


class JsonLines:
    """A file for each session; an append is on the disk when it returns, as with a database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def append(self, key: dict[str, str], entries: list[Any]) -> None:
        await asyncio.to_thread(self._append, key, entries)

    def _append(self, key: dict[str, str], entries: list[Any]) -> None:
        with (self.folder / key["session_id"]).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
            file.flush()
            os.fsync(file.fileno())

    async def load(self, key: dict[str, str]) -> list[Any]:
        text = await asyncio.to_thread((self.folder / key["session_id"]).read_text, encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]


class Stores(Side):
    """A session store of its protocol."""

    store: Any

    def key(self, session: str) -> dict[str, str]:
        return {"project_key": "benchmark", "session_id": f"{self.prefix}-{session}"}

    async def append(self, session: str, number: int) -> None:
        await self.store.append(self.key(session), turn(f"{self.prefix}-{session}", number))

    async def fill(self, session: str, entries: int) -> None:
        turns = (turn(f"{self.prefix}-{session}", number) for number in range(entries // 4))
        await self.store.append(self.key(session), [entry for entries in turns for entry in entries])

    async def all(self, session: str) -> int:
        return len(await self.store.load(self.key(session)))


class Ours(Stores):
    name = OURS

    async def open(self) -> None:
        self.store = ContextSessionStore(await self.our_store())


class InMemory(Stores):
    name = "InMemorySessionStore"
    durability = "nothing: it is in memory"

    async def open(self) -> None:
        self.store = InMemorySessionStore()


class Files(Stores):
    name = "JSONL file"
    durability = "an fsync of the file"

    async def open(self) -> None:
        folder = Path(f"{self.path}.jsonl") if self.engine == "sqlite" else Path(f"jsonl-{self.prefix}")
        folder.mkdir()
        self.store = JsonLines(folder)


FRAMEWORKS = [
    Framework(
        "claude_agent_sdk",
        Ours,
        {"sqlite": [Files, InMemory], "postgres": [Files, InMemory]},
        works=("append", "all", "in flight"),
        unasked=("InMemorySessionStore",),
    ),
]
