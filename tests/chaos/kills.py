"""Writers that are killed with ``kill -9`` at a random moment, on a SQLite file and on JSON files."""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from functools import partial
from pathlib import Path

from tests.chaos.databases import integrity, remove_database
from tests.chaos.ledger import Ledger
from tests.chaos.shim import locks_broken
from tests.chaos.trial import Result, Setup, Trial
from tests.chaos.writer import Job
from tests.chaos.zygote import Zygote
from tests.support.connections import Connection

# A check costs as much as its context is long, and integrity_check as much as its file is large.
CYCLES_A_CONTEXT = 10
CONTEXTS_A_FILE = 10
# Most faults come while writers save, this long after the first save; some while they are still opening.
LONGEST = 0.1
EARLY_SHARE = 0.25
PATIENCE = 20.0


async def kill_on_sqlite(setup: Setup, *, writers: int) -> Result:
    result = Result()
    with Zygote(locks_broken(setup.folder, setup.breaks)) as zygote:
        while result.cycles < setup.cycles:
            path = setup.folder / f"tasks-{result.cycles}.db"
            ledger = Ledger(Connection("sqlite", f"sqlite:///{path}"), setup.folder)
            for _ in range(min(CONTEXTS_A_FILE, math.ceil((setup.cycles - result.cycles) / CYCLES_A_CONTEXT))):
                chat = f"chat-{result.cycles}"
                for _ in range(min(CYCLES_A_CONTEXT, setup.cycles - result.cycles)):
                    await _write_and_kill(zygote, setup, ledger, chat, f"c{result.cycles}", writers)
                    result.cycles += 1
                    await ledger.check([chat])
                    setup.tell(f"kill {result.cycles:,} of {setup.cycles:,}")
                if path.exists():
                    result.problems += integrity(path)
            await ledger.close(result)
            remove_database(path)
    return result


async def kill_on_json(setup: Setup) -> Result:
    result = Result()
    with Zygote() as zygote:
        while result.cycles < setup.cycles:
            chat = f"chat-{result.cycles}"
            folder = setup.folder / chat
            ledger = Ledger(Connection("json", f"json:///{folder}"), setup.folder)
            for _ in range(min(CYCLES_A_CONTEXT, setup.cycles - result.cycles)):
                await _write_and_kill(zygote, setup, ledger, chat, f"c{result.cycles}", 1)
                result.cycles += 1
                result.problems += _unreadable(folder)
                await ledger.check([chat])
                setup.tell(f"kill {result.cycles:,} of {setup.cycles:,}")
            await ledger.close(result)
    return result


async def _write_and_kill(zygote: Zygote, setup: Setup, ledger: Ledger, chat: str, name: str, writers: int) -> None:
    journal = ledger.journal(chat)
    jobs = [Job(ledger.connection, chat, f"{name}w{n}", str(journal), breaks=setup.breaks) for n in range(writers)]
    processes = [zygote.start(job) for job in jobs]
    await write_a_while(journal)
    zygote.kill(*processes)


async def write_a_while(journal: Path) -> None:
    """Let writers save until a random moment."""
    if random.random() >= EARLY_SHARE:
        size = _size(journal)
        until = time.monotonic() + PATIENCE
        while _size(journal) == size and time.monotonic() < until:  # noqa: ASYNC110 - a file tells no event
            await asyncio.sleep(0.005)
    await asyncio.sleep(random.uniform(0, LONGEST))


def _size(journal: Path) -> int:
    return journal.stat().st_size if journal.exists() else 0


def _unreadable(folder: Path) -> list[str]:
    """The history files that are no JSON. Looked at here: loading one would set it aside."""
    found = []
    for path in folder.glob("context_history_*"):
        try:
            json.loads(path.read_text())
        except ValueError as error:
            found.append(f"{path.name} is neither the old file nor the new one: {error}")
    return found


TRIALS = [
    Trial("sqlite-kill-1", "kill -9 of one writer on a SQLite file", 1000, 8, partial(kill_on_sqlite, writers=1)),
    Trial("sqlite-kill-3", "kill -9 of three writers on a SQLite file", 300, 5, partial(kill_on_sqlite, writers=3)),
    Trial("json-kill", "kill -9 of a writer on a JSON file", 1000, 8, kill_on_json),
]
