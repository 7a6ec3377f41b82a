"""Connections to Postgres that break at COMMIT, when nobody knows if it happened, under callers that are cancelled."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql import Store
from taskctx_sql.errors import StoreError
from tests.chaos.marks import Acknowledged, add_step, context_of, examine
from tests.chaos.proxy import Cut, Proxy
from tests.chaos.trial import Result, Setup, Trial
from tests.chaos.writer import Careless
from tests.support.connections import OVER, Connection
from tests.support.contract import never_returned
from tests.support.postgres import ask

CALLERS: Final = 6
CHATS: Final = 3
CUTS_A_CONTEXT: Final = 100
CUT_SHARE: Final = 0.3
CANCEL_SHARE: Final = 0.7
# Most cancellations come while the save is at work, some while it waits for its next try.
CANCEL_AFTER: Final = (0.002, 0.01, 0.1, 0.5)
LOAD_EVERY: Final = 20
SETTLED_WITHIN: Final = 2.0

# What is still under way for others than this question.
_AT_WORK = """SELECT count(*) FROM pg_stat_activity
              WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'"""
_CONNECTED = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


async def cut_at_commit(setup: Setup) -> Result:
    result = Result()
    async with setup.new_connection() as connection:
        while result.cycles < setup.cycles and not result.is_hopeless:
            await _some_cuts(setup, connection, result)
    return result


async def _some_cuts(setup: Setup, connection: Connection, result: Result) -> None:
    target = min(CUTS_A_CONTEXT, setup.cycles - result.cycles)

    def choose() -> Cut | None:
        if proxy.cuts >= target or random.random() > CUT_SHARE:
            return None
        setup.tell(f"cut {result.cycles + proxy.cuts:,} of {setup.cycles:,}")
        return random.choice(list(Cut))

    async with Proxy(connection.url, choose) as proxy:
        async with _opened(connection.through(proxy.url), setup.breaks == "retry-blindly") as (store, engine):
            callers = [
                _Caller(store, f"chat-{result.cycles}-{number % CHATS}", number, result) for number in range(CALLERS)
            ]
            await asyncio.gather(
                *(caller.save_until(lambda: proxy.cuts >= target or result.is_hopeless) for caller in callers)
            )
            for chat in dict.fromkeys(caller.chat for caller in callers):
                entries = [entry for caller in callers if caller.chat == chat for entry in caller.acknowledged]
                result.acknowledged += len(entries)
                result.findings.add(await examine(store, chat, entries))
            if engine is not None and (out := await never_returned(engine)):
                result.problems.append(f"{out} connections were never returned to the pool")
            await _expect_none(connection.owner_url, _AT_WORK, "sessions are in a transaction at the end", result)
        await _expect_none(connection.owner_url, _CONNECTED, "connections are open after the store was closed", result)
        result.cycles += proxy.cuts


class _Caller:
    """Saves again and again; every second one is cancelled at most of its saves."""

    def __init__(self, store: Store, chat: str, number: int, result: Result) -> None:
        self.chat = chat
        self.acknowledged: list[Acknowledged] = []
        self._name = f"w{number}"
        self._is_cancelled = number % 2 == 1
        self._result = result
        self._context = context_of(store, chat)

    async def save_until(self, is_done: Any) -> None:
        await self._context.load()
        number = 0
        while not is_done():
            number += 1
            add_step(self._context, self._name, number)
            await self._save(cancel=self._is_cancelled and random.random() < CANCEL_SHARE)
            if number % LOAD_EVERY == 0:
                await self._context.load()
        # What a cancelled save left unsaved, or in doubt, goes with the last one: then all is there, once.
        await self._save(cancel=False)
        self.acknowledged = [Acknowledged(self._name, saved, 0.0, 0.0) for saved in range(1, number + 1)]

    async def _save(self, *, cancel: bool) -> None:
        started = time.monotonic()
        saving = asyncio.create_task(self._context.save())
        if cancel:
            await asyncio.sleep(random.uniform(0, random.choice(CANCEL_AFTER)))
            saving.cancel()
        await asyncio.wait([saving])
        self._result.longest = max(self._result.longest, time.monotonic() - started)
        if not saving.cancelled() and (error := saving.exception()) is not None:
            if not isinstance(error, StoreError):
                raise error
            self._result.problems.append(f"{self._name}: {type(error).__name__}: {error}")


@asynccontextmanager
async def _opened(connection: Connection, blindly: bool) -> AsyncIterator[tuple[Store, AsyncEngine | None]]:
    engine = connection.engine()
    store = await connection.open(engine, retry_seconds=0 if blindly else None)
    try:
        yield (Careless(store) if blindly else store), engine
    finally:
        await store.close()
        if engine is not None:
            await engine.dispose()


async def _expect_none(url: str, question: str, what: str, result: Result) -> None:
    """Wait a little until the server, too, has seen that all is over."""
    until = time.monotonic() + SETTLED_WITHIN
    while count := await ask(url, question):
        if time.monotonic() > until:
            result.problems.append(f"{count} {what}")
            return
        await asyncio.sleep(0.05)


TRIALS = [
    Trial(
        "commit-cut",
        "a connection to Postgres cut at COMMIT, half of the callers cancelled",
        1000,
        15,
        cut_at_commit,
        over=OVER,
    ),
]
