"""Who is measured: what each side can do, and how this library does it. Each does the same work in its own way."""

from __future__ import annotations

import time
import uuid
from typing import Any, Protocol

from taskctx_sql import Store, TaskContext, open_store, schema
from tests.benchmarks.data import FILE, MODEL, updates
from tests.benchmarks.figures import OURS

SAMPLE = updates(1000)


class Side(Protocol):
    """One that saves and loads. A chat is named by a number."""

    name: str

    async def open(self) -> None:
        """Get ready."""

    async def close(self) -> None:
        """Give everything back."""

    def new_chat(self) -> int:
        """Return a chat that nobody has."""

    def add(self, chat: int, count: int, *, trackers: bool = False) -> None:
        """Add so many updates in memory; with ``trackers`` a file and a model as well."""

    async def save(self, chat: int) -> None:
        """Write what was added, durably."""

    async def load(self, chat: int, *, touch: bool, limit: int | None = None) -> int:
        """Load a chat's updates, all or the newest, and return how many; ``touch`` looks at each value."""

    def let_go(self) -> None:
        """Drop the chats that are in memory."""


class Chats:
    """Chats, and how many updates each one has."""

    def __init__(self) -> None:
        self.prefix = uuid.uuid4().hex[:8]
        self.lengths: list[int] = []

    def new_chat(self) -> int:
        self.lengths.append(0)
        return len(self.lengths) - 1

    def take(self, chat: int, count: int) -> list[tuple[int, tuple[str, Any, dict[str, Any]]]]:
        """Return the chat's next updates, each with its number in the chat, from 1."""
        first = self.lengths[chat] + 1
        self.lengths[chat] += count
        return [(number, SAMPLE[number % len(SAMPLE)]) for number in range(first, first + count)]


class Ours(Chats):
    """This library, through its public names."""

    name = OURS
    store: Store

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.contexts: dict[int, TaskContext] = {}

    async def open(self) -> None:
        await schema.upgrade(self.url)
        self.store = await open_store(self.url)

    async def close(self) -> None:
        await self.store.close()

    def add(self, chat: int, count: int, *, trackers: bool = False) -> None:
        if chat not in self.contexts:
            self.contexts[chat] = self._context(chat)
        context = self.contexts[chat]
        for _, update in self.take(chat, count):
            context.add_context_update(*update)
        if trackers:
            context.file_tracker[f"f{self.lengths[chat]}"] = FILE
            context.model_tracker.append(MODEL | {"timestamp": time.time()})

    async def save(self, chat: int) -> None:
        await self.contexts[chat].save()

    async def load(self, chat: int, *, touch: bool, limit: int | None = None) -> int:
        context = self._context(chat, limit)
        await context.load()
        if touch:
            return len([(update.data, update.metadata) for update in context.context_history])
        return len(context.context_history)

    def let_go(self) -> None:
        self.contexts.clear()

    def _context(self, chat: int, limit: int | None = None) -> TaskContext:
        return TaskContext({"user_id": self.prefix, "chat_id": chat}, store=self.store, history_limit=limit)
