"""What a tour of all public calls needs: its stops, each with a new store, and what they share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskctx_sql import ContextKey, SqlStore, TaskContext, open_store

USER = "traveler"
KEY = ContextKey(USER, "c")


@dataclass
class Guide:
    """What the stops of a tour need.

    Attributes:
        url: The database.
        direct_url: The same, where nobody looks at what it is sent.
        other_url: Another one, as source and target of copies; nobody looks at what it is sent.
        folder: An empty folder.
        is_citus: Whether it is one, and not a Postgres that only says so.
    """

    url: str
    direct_url: str
    other_url: str
    folder: Path
    is_citus: bool = False


Stop = Callable[[Guide], Awaitable[None]]

# What they send goes to one machine, save for SELECTs of what is in CROSSING.
STOPS: dict[str, Stop] = {}
# Stops that also read across contexts: why, and the one table that they read so, if it is one.
CROSSING: dict[str, tuple[str, str]] = {}


def stop(
    name: str, *, crosses: str = "", table: str = "taskctx_contexts"
) -> Callable[[Callable[[SqlStore, Guide], Awaitable[None]]], None]:
    """Add a stop of the tour, with a store of its own.

    Args:
        name: What to call it.
        crosses: Why it may read across contexts.
        table: Which table it reads so; empty for any.
    """

    def add(visit: Callable[[SqlStore, Guide], Awaitable[None]]) -> None:
        async def with_a_store(guide: Guide) -> None:
            async with open_store(guide.url) as store:
                assert isinstance(store, SqlStore)
                await visit(store, guide)

        STOPS[name] = with_a_store
        if crosses:
            CROSSING[name] = (crosses, table)

    return add


async def context(store: SqlStore, chat: str = "c", **more: Any) -> TaskContext:
    found = TaskContext({"user_id": USER, "chat_id": chat}, store=store, **more)
    await found.load()
    return found


def fill(found: TaskContext, count: int = 3) -> None:
    for number in range(count):
        found.add_context_update("message", {"number": number, "path": "a.txt"})
    found.track_file_operation("a.txt", "read", "user")
    found.track_model_usage("m", "p", "x", input_tokens=1, cost=0.5)
