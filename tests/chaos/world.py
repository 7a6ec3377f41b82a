"""What random programs work on: a database, two writers, and the event loop that they run in."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

from taskctx_sql import Store, TaskContext
from taskctx_sql.model import Delta
from tests.chaos.marks import USER
from tests.chaos.model import Change, Memory
from tests.support.faults import FaultyStore


class World:
    """The database that all programs of a test work on, each with a chat of its own, and the loop that they run in."""

    def __init__(self, runner: asyncio.Runner, open_one: Callable[[], Coroutine[Any, Any, Store]]) -> None:
        self.runner = runner
        self.open_one = open_one
        self.stores: list[Store] = []
        self.chats = itertools.count()
        self.ticks = itertools.count(1)
        self.saves = 0

    def open(self) -> None:
        """Open both writers' stores, as after a new start of their processes."""
        self.close()
        self.stores = [self.runner.run(self.open_one()) for _ in range(2)]

    def close(self) -> None:
        for store in self.stores:
            self.runner.run(store.close())
        self.stores = []

    def clock(self) -> float:
        """A time that nobody else was given."""
        return 1_700_000_000.0 + next(self.ticks) / 8


class Writer:
    """A context, its store, and what the model thinks of them."""

    def __init__(self, world: World, store: Store, chat: str) -> None:
        self.store = FaultyStore(store)
        self.context = TaskContext({"user_id": USER, "chat_id": chat}, store=self.store, clock=world.clock)
        self.memory = Memory()
        # A save that failed so that nobody knows whether it happened, and is to be sent again as it was.
        self.doubt: Change | None = None
        self.last: Delta | None = None
        self.sent = 0
        # How often the database had changed when this writer last knew all that was in it; None: the model cannot tell.
        self.seen: int | None = 0
