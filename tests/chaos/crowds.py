"""Many at once: eight processes that save thousands of times, and first writers that all make the same context."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Final

from tests.chaos.databases import Engine, database
from tests.chaos.marks import USER, Entries, examine, read_journal
from tests.chaos.shim import locks_broken
from tests.chaos.trial import Result, Setup, Trial
from tests.chaos.writer import Job
from tests.chaos.zygote import Zygote
from tests.support.connections import OVER, PLAIN, Connection

PROCESSES: Final = 8
# Half of the time for which a writer waits for a SQLite file.
LONGEST_WAIT: Final = 30.0
FIRST_TASKS: Final = 100
# Time to fork them all before they begin at once.
HEAD_START: Final = 0.15


async def save_from_processes(setup: Setup, *, engine: Engine) -> Result:
    """``setup.cycles`` saves of each process."""
    result = Result(limit=LONGEST_WAIT)
    async with database(setup, engine, result) as connection:
        async with connection.store():
            # Makes the tables of a new file; that many do this at once is another test.
            pass
        with Zygote(locks_broken(setup.folder, setup.breaks)) as zygote:
            journals = [setup.folder / f"{number}.journal" for number in range(PROCESSES)]
            started = [
                zygote.start(
                    Job(connection, "shared", f"p{number}", str(journal), saves=setup.cycles, breaks=setup.breaks)
                )
                for number, journal in enumerate(journals)
            ]
            codes = await zygote.wait(*started, patience=LONGEST_WAIT + setup.cycles)
        result.problems += [f"process {place} ended with {code}" for place, code in enumerate(codes) if code]
        entries = Entries()
        for journal in journals:
            found = read_journal(journal)
            result.take(found)
            entries.saved += found.saved
        setup.tell("checking")
        async with connection.store() as store:
            result.findings = await examine(store, "shared", entries.saved)
    result.cycles = setup.cycles
    return result


async def first_writers(setup: Setup, *, engine: Engine) -> Result:
    """In each cycle a database that nobody has used: all of them make its one context at once."""
    result = Result()
    with Zygote() as zygote:
        while result.cycles < setup.cycles:
            async with database(setup, engine, result, upgraded=False) as connection:
                await _make_one_context(setup, zygote, connection, result)
            result.cycles += 1
            setup.tell(f"database {result.cycles:,} of {setup.cycles:,}")
    return result


async def _make_one_context(setup: Setup, zygote: Zygote, connection: Connection, result: Result) -> None:
    journal = setup.folder / f"{result.cycles}.journal"
    common = Job(
        connection,
        "first",
        "",
        str(journal),
        saves=1,
        begin_at=time.monotonic() + HEAD_START,
        upgrade=connection.kind == PLAIN,
    )
    jobs = [replace(common, writer=f"p{number}") for number in range(PROCESSES)]
    jobs.append(replace(common, writer="crowd", tasks=FIRST_TASKS))
    codes = await zygote.wait(*[zygote.start(job) for job in jobs], patience=LONGEST_WAIT)
    result.problems += [f"{job.writer} ended with {code}" for job, code in zip(jobs, codes, strict=True) if code]
    entries = read_journal(journal)
    result.take(entries)
    async with connection.store() as store:
        result.findings.add(await examine(store, "first", entries.saved))
        found = await store.contexts(USER)
        if len(found) != 1:
            result.problems.append(f"there are {len(found)} contexts")


TRIALS = [
    Trial(
        "processes-sqlite",
        "8 processes saving to one context of one file",
        10_000,
        40,
        partial(save_from_processes, engine="sqlite"),
    ),
    Trial(
        "processes-postgres",
        "8 processes saving to one context of one server",
        10_000,
        40,
        partial(save_from_processes, engine="postgres"),
        over=OVER,
    ),
    Trial(
        "first-writers-sqlite",
        "100 tasks and 8 processes make one context in a new file",
        20,
        2,
        partial(first_writers, engine="sqlite"),
    ),
    Trial(
        "first-writers-postgres",
        "the same in a new database of a server",
        20,
        2,
        partial(first_writers, engine="postgres"),
        over=(PLAIN,),
    ),
]
