"""What a writer process does: save again and again, and acknowledge each save after it returned."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from taskctx_sql import Store, schema
from taskctx_sql.errors import StoreError
from taskctx_sql.model import Delta, Saved
from tests.chaos.marks import Journal, add_step, context_of
from tests.support.connections import Connection
from tests.support.faults import FaultyStore

# What can be broken on purpose, to see that the checker notices.
BREAKS = {
    "ack-first": "acknowledge before the save",
    "retry-blindly": "send a failed save again under a new identity",
    "no-lock": "let the locks of a SQLite file lock nothing",
    "no-fsync": "let fsync keep nothing",
    "no-waiting": "let a cancelled save go on behind its caller's back",
    "hold-lock": "keep a SQLite file locked after a cancellation",
}
PAUSE = 0.02


@dataclass(frozen=True)
class Job:
    """What one writer is to do. It travels to its process as JSON."""

    connection: Connection
    chat: str
    writer: str
    journal: str
    saves: int | None = None
    tasks: int = 1
    pause: float = 0.0
    begin_at: float = 0.0
    upgrade: bool = False
    breaks: str = ""

    @classmethod
    def of(cls, found: dict[str, Any]) -> Job:
        """The job that has travelled."""
        return cls(**{**found, "connection": Connection(**found["connection"])})


async def work(job: Job) -> None:
    """Do a job; an error of a save is written down, and the save tried again."""
    journal = Journal(Path(job.journal))
    await asyncio.sleep(max(0.0, job.begin_at - time.monotonic()))
    try:
        if job.upgrade:
            await schema.upgrade(job.connection.address)
        blindly = job.breaks == "retry-blindly"
        async with job.connection.store(retry_seconds=0 if job.breaks else None) as opened:
            store: Store = Careless(opened) if blindly else opened
            names = [job.writer] if job.tasks == 1 else [f"{job.writer}t{task}" for task in range(job.tasks)]
            await asyncio.gather(*(_save_again_and_again(store, job, name, journal) for name in names))
    except Exception as error:
        journal.fail(job.writer, error)
        raise
    finally:
        journal.close()


async def _save_again_and_again(store: Store, job: Job, writer: str, journal: Journal) -> None:
    context = context_of(store, job.chat, history_limit=3)
    await context.load()
    number = 0
    while job.saves is None or number < job.saves:
        number += 1
        add_step(context, writer, number)
        started = time.monotonic()
        if job.breaks == "ack-first":
            journal.acknowledge(writer, number, 0.0)
            await asyncio.sleep(PAUSE)
        while True:
            try:
                await context.save()
                break
            except StoreError as error:
                journal.fail(writer, error)
                if job.breaks == "no-lock":
                    # The file is spoiled.
                    raise
                await asyncio.sleep(PAUSE)
        if job.breaks != "ack-first":
            journal.acknowledge(writer, number, time.monotonic() - started)
        if job.pause:
            await asyncio.sleep(job.pause)


class Careless(FaultyStore):
    """A store that sends a save that failed again as if it were another one: what the library must never do."""

    async def save(self, delta: Delta, /) -> Saved:
        while True:
            delta = replace(delta, run=replace(delta.run, run_id=str(uuid.uuid4())))
            try:
                return await self.behind.save(delta)
            except StoreError:
                await asyncio.sleep(PAUSE)
