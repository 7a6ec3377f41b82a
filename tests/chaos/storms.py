"""Saves that are cancelled at random moments, while another process saves to the same context and feels every lock."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Final

from taskctx_sql import ContextKey, Store
from tests.chaos.databases import Engine, database
from tests.chaos.marks import USER, Acknowledged, add_step, context_of, examine, mark_of, read_journal
from tests.chaos.trial import Result, Setup, Trial
from tests.chaos.writer import Job
from tests.chaos.zygote import Zygote
from tests.support.connections import OVER, Connection

TASKS: Final = 6
CHATS: Final = 2
CANCELS_A_CONTEXT: Final = 250
# From before the save begins to after it has ended.
CANCEL_AFTER: Final = 0.006
# No lock is held longer than this, so nobody waits longer.
LIMIT: Final = 1.0
# How often it is looked at whether a cancelled save was really over, and how long after.
LOOK_SHARE: Final = 0.25
LOOK_AFTER: Final = 0.05


async def cancel_saves(setup: Setup, *, engine: Engine) -> Result:
    result = Result(limit=LIMIT)
    async with database(setup, engine, result) as connection:
        with Zygote() as zygote:
            while result.cycles < setup.cycles and not result.is_hopeless:
                await _some_cancels(setup, connection, zygote, result)
    return result


async def _some_cancels(setup: Setup, connection: Connection, zygote: Zygote, result: Result) -> None:
    target = min(setup.cycles, result.cycles + CANCELS_A_CONTEXT)
    chats = [f"chat-{result.cycles}-{number}" for number in range(CHATS)]
    async with connection.store() as store:
        journals = [setup.folder / f"{chat}.journal" for chat in chats]
        neighbours = [
            zygote.start(Job(connection, chat, "neighbour", str(journal), pause=0.005))
            for chat, journal in zip(chats, journals, strict=True)
        ]
        cancelled = [
            _Cancelled(store, chats[number % CHATS], number, result, waits=setup.breaks != "no-waiting")
            for number in range(TASKS)
        ]
        await asyncio.gather(
            *(one.save_until(lambda: result.cycles >= target or result.is_hopeless, setup) for one in cancelled)
        )
        if setup.breaks == "hold-lock":
            await _hold_lock(connection.url)
        # The neighbours go on a little, so that a lock left behind would be felt.
        await asyncio.sleep(0.2)
        zygote.kill(*neighbours)
        for chat, journal in zip(chats, journals, strict=True):
            entries = read_journal(journal)
            result.take(entries)
            ours = [entry for one in cancelled if one.chat == chat for entry in one.acknowledged]
            result.acknowledged += len(ours)
            result.findings.add(await examine(store, chat, entries.saved + ours))


class _Cancelled:
    """Saves again and again, and is cancelled nearly each time."""

    def __init__(self, store: Store, chat: str, number: int, result: Result, *, waits: bool) -> None:
        self.chat = chat
        self.acknowledged: list[Acknowledged] = []
        self._store = store
        self._name = f"w{number}"
        self._result = result
        self._waits = waits
        self._context = context_of(store, chat)

    async def save_until(self, is_done: Callable[[], bool], setup: Setup) -> None:
        await self._context.load()
        number = 0
        while not is_done():
            number += 1
            add_step(self._context, self._name, number)
            if await self._save_and_cancel():
                self._result.cycles += 1
                setup.tell(f"cancelled {self._result.cycles:,} of {setup.cycles:,}")
                if random.random() < LOOK_SHARE:
                    await self._see_that_it_is_over()
        # What a cancelled save left unsaved goes with the last one: then all is there, once.
        await self._context.save()
        self.acknowledged = [Acknowledged(self._name, saved, 0.0, 0.0) for saved in range(1, number + 1)]

    async def _save_and_cancel(self) -> bool:
        saving: asyncio.Future[int] = asyncio.create_task(self._context.save())
        if not self._waits:
            saving = asyncio.shield(saving)
        await asyncio.sleep(random.uniform(0, CANCEL_AFTER))
        saving.cancel()
        asked = time.monotonic()
        await asyncio.wait([saving])
        self._result.longest = max(self._result.longest, time.monotonic() - asked)
        if saving.cancelled():
            return True
        if (error := saving.exception()) is not None:
            self._result.problems.append(f"{self._name}: {type(error).__name__}: {error}")
        return False

    async def _see_that_it_is_over(self) -> None:
        """What a cancelled save did, it did before the cancellation reached the caller."""
        first = await self._stored()
        await asyncio.sleep(LOOK_AFTER)
        if await self._stored() != first:
            self._result.problems.append(f"{self._name}: a save was still at work after its cancellation had come")

    async def _stored(self) -> int:
        loaded = await self._store.load(ContextKey(USER, self.chat))
        return sum(mark_of(row.update).startswith(f"{self._name}.") for row in loaded.updates)


async def _hold_lock(url: str) -> None:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
        connection.execute("PRAGMA busy_timeout = 5000")
        connection.execute("BEGIN IMMEDIATE")
        await asyncio.sleep(LIMIT * 1.2)


TRIALS = [
    Trial(
        "cancel-storm-sqlite", "saves to SQLite cancelled at random", 1000, 60, partial(cancel_saves, engine="sqlite")
    ),
    Trial(
        "cancel-storm-postgres",
        "saves to Postgres cancelled at random",
        1000,
        60,
        partial(cancel_saves, engine="postgres"),
        over=OVER,
    ),
]
