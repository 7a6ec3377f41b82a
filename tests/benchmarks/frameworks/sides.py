"""What is measured of a store: sessions, to which a framework appends turns, and which it loads."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Literal

from taskctx_sql import Store, open_store, schema
from tests.benchmarks.figures import OURS

Engine = Literal["sqlite", "postgres"]
# What a side can be asked to do; not every protocol has a way to load the newest entries only.
Work = Literal["append", "last", "all", "latest", "in flight"]

TEXT = "The quarterly figures of the northern region are attached, and the outlook for the next year is unchanged. " * 3


class Side(ABC):
    """A store, through the protocol of its framework. A session is named by a text.

    Attributes:
        name: What the table calls it.
        entries_a_turn: What the user says, a call of a tool, its result, and the answer, each about 400 bytes of JSON.
        durability: What it promises of a commit, if it has no database.
    """

    name: str
    entries_a_turn = 4
    durability: str | None = None

    def __init__(self, url: str) -> None:
        """Take the URL of an empty database, as SQLAlchemy writes it, without a driver."""
        self.url = url
        self.prefix = uuid.uuid4().hex[:8]
        self.closing = AsyncExitStack()

    @property
    def engine(self) -> str:
        return self.url.partition(":")[0]

    @property
    def is_ours(self) -> bool:
        return self.name == OURS

    @property
    def path(self) -> str:
        """The file of a SQLite database."""
        return self.url.removeprefix("sqlite:///")

    def driver_url(self, **drivers: str) -> str:
        """Return the URL with the driver that is named for its engine."""
        engine, rest = self.url.split(":", 1)
        return f"{engine}+{drivers[engine]}:{rest}"

    @abstractmethod
    async def open(self) -> None:
        """Get ready."""

    async def close(self) -> None:
        """Give everything back."""
        await self.closing.aclose()

    @abstractmethod
    async def append(self, session: str, number: int) -> None:
        """Append a turn, durably. The number tells its entries from those of other turns."""

    async def fill(self, session: str, entries: int) -> None:
        """Bring a new session to so many entries; not measured."""
        for number in range(entries // self.entries_a_turn):
            await self.append(session, number)

    async def last(self, session: str, count: int) -> int:
        """Load the newest entries, and return how many."""
        raise NotImplementedError

    async def latest(self, session: str) -> int:
        """Load what a session continues from, and return 1."""
        raise NotImplementedError

    @abstractmethod
    async def all(self, session: str) -> int:
        """Load all entries, and return how many."""

    def let_go(self) -> None:  # noqa: B027  # not every side holds something
        """Drop what it holds in memory of its sessions."""

    async def our_store(self) -> Store:
        """Open a store of this library, until the side is closed."""
        await schema.upgrade(self.url)
        return await self.closing.enter_async_context(open_store(self.url))


@dataclass(frozen=True)
class Framework:
    """A framework, and who is measured in it.

    Attributes:
        name: What the table calls it.
        ours: Makes our side.
        own: Make the framework's own, for each engine.
        entries: How many entries the long session has.
        sessions: How many are in flight.
        works: What is measured.
        unasked: Own sides that do less than ours, so that no ratio is asked beside them.
        grows: Whether a thread's growth is measured, too.
        fills_by_turns: Whether a long session is filled by thousands of commits.
    """

    name: str
    ours: Callable[[str], Side]
    own: dict[Engine, Sequence[Callable[[str], Side]]]
    entries: int = 10_000
    sessions: int = 200
    works: Sequence[Work] = ("append", "last", "all", "in flight")
    unasked: Sequence[str] = field(default=())
    grows: bool = False
    fills_by_turns: bool = False
