"""A Citus whose machines are killed, and whose shards move, under six writers.

It takes a cluster that is there: TASKCTX_TEST_CITUS_URL names its coordinator.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import time
from pathlib import Path

import asyncpg

from taskctx_sql import ContextKey, schema
from taskctx_sql.sql import row_codec
from tests.chaos.marks import USER
from tests.chaos.outages import some_faults
from tests.chaos.trial import Result, Setup, Trial
from tests.chaos.zygote import Zygote
from tests.support.citus import Node, ask, new_database, nodes
from tests.support.connections import Connection

# A machine that is back is asked again after a pause of a second at the most, by each writer and by the coordinator.
LIMIT = 5.0
STOPPED = 1.0


class Machine:
    """The server of a node, on this machine.

    Args:
        node: Which node.
        url: The URL of a database that is on it.
        folder: Its data directory, as it says itself.

    Raises:
        RuntimeError: It does not run here.
    """

    def __init__(self, node: Node, url: str, folder: Path) -> None:
        self.url = node.url(url)
        self._folder = folder
        try:
            pid = int((folder / "postmaster.pid").read_text().splitlines()[0])
            self._pg_ctl = Path(f"/proc/{pid}/exe").resolve(strict=True).with_name("pg_ctl")
            self._log = Path(f"/proc/{pid}/fd/2").resolve()
            # Its owner's: libpq, with which the machines talk, looks for files there.
            pairs = Path(f"/proc/{pid}/environ").read_text().rstrip("\0").split("\0")
            self._environment = dict(pair.split("=", 1) for pair in pairs)
        except OSError as error:
            raise RuntimeError(
                f"{node.host}:{node.port} cannot be killed: its server does not run on this machine ({error})"
            ) from error

    def crash(self) -> None:
        """Stop it as a crash does: connections break, and what was not on the disk is gone."""
        self._control("-m", "immediate", "stop")

    def start(self) -> None:
        """Start it again with the options that it had, and wait until it takes connections."""
        self._control("-l", str(self._log), "restart")

    def _control(self, *arguments: str) -> None:
        # It refuses to run as root.
        owner = self._folder.stat().st_uid if os.geteuid() == 0 else None
        command = [str(self._pg_ctl), "-w", "-s", "-D", str(self._folder), *arguments]
        quiet = subprocess.DEVNULL
        subprocess.run(
            command, user=owner, check=True, cwd="/", env=self._environment, stdin=quiet, stdout=quiet, stderr=quiet
        )


async def _machines(url: str) -> list[Machine]:
    found = await ask(
        url,
        "SELECT nodename, nodeport, groupid = 0, result FROM pg_dist_node "
        "JOIN run_command_on_all_nodes('SHOW data_directory') USING (nodeid) ORDER BY groupid",
    )
    return [Machine(Node(*row[:3]), url, Path(row[3])) for row in found]


async def kill_a_machine(setup: Setup) -> Result:
    result = Result(limit=LIMIT)
    async with new_database(setup.citus_url) as url:
        await schema.upgrade(url)
        machines = await _machines(url)

        async def fault(chats: list[str]) -> float:
            machine = random.choice(machines)
            await asyncio.to_thread(machine.crash)
            await asyncio.sleep(random.uniform(0, STOPPED))
            await asyncio.to_thread(machine.start)
            return time.monotonic()

        with Zygote() as zygote:
            while result.cycles < setup.cycles and not result.is_hopeless:
                await some_faults(setup, fault, zygote, Connection("citus", url), result)
    return result


async def move_shards(setup: Setup) -> Result:
    result = Result(limit=LIMIT)
    async with new_database(setup.citus_url) as url:
        await schema.upgrade(url)
        _, *workers = await nodes(url)

        async def fault(chats: list[str]) -> float:
            """Move the rows of one of the contexts to the next machine while they are written to."""
            ident = row_codec.context_id(ContextKey(USER, random.choice(chats)))
            shard = "get_shard_id_for_distribution_column('taskctx_contexts', $1::text)"
            ((shard_id, *at),) = await ask(
                url, f"SELECT shardid, nodename, nodeport FROM citus_shards WHERE shardid = {shard}", ident
            )
            here = next(place for place, node in enumerate(workers) if [node.host, node.port] == at)
            there = workers[(here + 1) % len(workers)]
            move = "SELECT citus_move_shard_placement($1, $2, $3, $4, $5, 'force_logical')"
            for attempt in range(3):
                try:
                    await ask(url, move, shard_id, *at, there.host, there.port)
                    break
                except asyncpg.DeadlockDetectedError:
                    # Of a move and saves that wait for each other, Citus may cancel the move.
                    if attempt == 2:
                        raise
            return time.monotonic()

        with Zygote() as zygote:
            while result.cycles < setup.cycles and not result.is_hopeless:
                await some_faults(setup, fault, zygote, Connection("citus", url), result, waits=True)
    return result


TRIALS = [
    Trial("citus-kill", "a machine of a Citus killed under six writers", 15, 2, kill_a_machine, on_citus=True),
    Trial("citus-moves", "shards of a Citus moved under six writers", 8, 1, move_shards, on_citus=True),
]
