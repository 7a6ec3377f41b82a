"""A Postgres server that is killed and started again under six writers."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg

from tests.chaos.ledger import Ledger
from tests.chaos.marks import read_journal
from tests.chaos.trial import Result, Setup, Trial
from tests.chaos.writer import Job
from tests.chaos.zygote import Zygote
from tests.support.connections import ON_POSTGRES, Connection, new_connection
from tests.support.postgres import Server, ask

WRITERS = 6
CHATS = 3
# A check costs as much as its contexts are long.
KILLS_A_CONTEXT = 10
SHORTEST, LONGEST = 0.1, 0.4
# Writers go on by themselves this soon after the server is back.
LIMIT = 3.0
PATIENCE = 20.0


async def kill_the_server(setup: Setup) -> Result:
    result = Result(limit=LIMIT)
    with Server() as server, Zygote() as zygote:

        async def fault(chats: list[str]) -> float:
            server.crash()
            return await _start(server)

        async with new_connection(setup.over, server.url) as connection:
            while result.cycles < setup.cycles and not result.is_hopeless:
                await some_faults(setup, fault, zygote, connection, result)
    return result


async def some_faults(
    setup: Setup,
    fault: Callable[[list[str]], Awaitable[float]],
    zygote: Zygote,
    connection: Connection,
    result: Result,
    *,
    waits: bool = False,
) -> None:
    """Let a fault happen again and again under the writers of some chats, and compare what is there afterwards.

    Args:
        setup: How often.
        fault: Makes it happen in the database of these chats, and returns the moment at which it was over.
        zygote: Where writers come from.
        connection: The database.
        result: Where to count.
        waits: Whether the longest time that a save took is an outage, too.
    """
    ledger = Ledger(connection, setup.folder)
    chats = [f"chat-{result.cycles}-{number}" for number in range(CHATS)]
    journals = {chat: ledger.journal(chat) for chat in chats}
    writers = [
        zygote.start(Job(connection, chat, f"c{result.cycles}w{number}", str(journals[chat]), breaks=setup.breaks))
        for number, chat in enumerate(chats * (WRITERS // CHATS))
    ]
    outage = await _until_all_go_on(list(journals.values()), 0.0)
    for _ in range(min(KILLS_A_CONTEXT, setup.cycles - result.cycles)):
        await asyncio.sleep(random.uniform(SHORTEST, LONGEST))
        outage = await _until_all_go_on(list(journals.values()), await fault(chats))
        result.longest = max(result.longest, outage)
        result.cycles += 1
        setup.tell(f"fault {result.cycles:,} of {setup.cycles:,}, the writers went on after {outage:.2f} s")
        if outage >= PATIENCE:
            result.problems.append(f"after {PATIENCE:g} s a writer had not gone on")
            break
    zygote.kill(*writers)
    await ledger.close(result, waits=waits)


async def _start(server: Server) -> float:
    """Start the server, and return the moment at which it answered."""
    starting = asyncio.create_task(asyncio.to_thread(server.start))
    while True:
        try:
            await ask(server.url, "SELECT 1")
            break
        except (OSError, asyncpg.PostgresError):
            await asyncio.sleep(0.01)
    answered = time.monotonic()
    await starting
    return answered


async def _until_all_go_on(journals: list[Path], since: float) -> float:
    """Wait until each writer has a save acknowledged that ended after ``since``; return how long the last one took."""
    began = time.monotonic()
    while time.monotonic() < began + PATIENCE:
        first: dict[str, float] = {}
        for journal in journals:
            for entry in read_journal(journal).saved:
                if entry.at > since:
                    first.setdefault(entry.writer, entry.at)
        if len(first) == WRITERS:
            return max(first.values()) - since
        await asyncio.sleep(0.05)
    return PATIENCE


TRIALS = [
    Trial("postgres-kill", "a Postgres server killed under six writers", 100, 2, kill_the_server, over=ON_POSTGRES)
]
