"""A peer beside ours, where the extra ``bench`` is installed: openai-agents' SQLAlchemySession."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from sqlalchemy.ext.asyncio import create_async_engine

from tests.benchmarks.figures import PEER
from tests.benchmarks.sides import Chats

HOW_TO_GET_IT = f"Without {PEER}: pip install -e '.[bench]' measures it too."


def is_installed() -> bool:
    return importlib.util.find_spec("agents") is not None


class OpenAiAgents(Chats):
    """Its SQLAlchemySession, one a chat, over an engine that all share; the same data, as items."""

    name = PEER

    def __init__(self, url: str) -> None:
        super().__init__()
        self.engine = create_async_engine(url)
        # Not imported as others are, for the types are checked without it, too.
        self.new_session = importlib.import_module("agents.extensions.memory").SQLAlchemySession
        self.added: dict[int, list[dict[str, Any]]] = {}
        self.sessions: dict[int, Any] = {}

    async def open(self) -> None:
        await self.new_session("nobody", engine=self.engine, create_tables=True).get_items(1)

    async def close(self) -> None:
        await self.engine.dispose()

    def add(self, chat: int, count: int, *, trackers: bool = False) -> None:
        self.added[chat] = [
            {"type": kind, **data, "metadata": metadata} for _, (kind, data, metadata) in self.take(chat, count)
        ]

    async def save(self, chat: int) -> None:
        await self._session(chat).add_items(self.added.pop(chat))

    async def load(self, chat: int, *, touch: bool, limit: int | None = None) -> int:
        return len(await self._session(chat).get_items(limit))

    def let_go(self) -> None:
        self.sessions.clear()

    def _session(self, chat: int) -> Any:
        if chat not in self.sessions:
            # Texts as they are, as ours and the limit's: escaped they would be longer.
            self.sessions[chat] = self.new_session(f"{self.prefix}-{chat}", engine=self.engine, ensure_ascii=False)
        return self.sessions[chat]
