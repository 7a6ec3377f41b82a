"""``python -m tests.benchmarks.round_trips``: how often a call waits for an answer of Postgres, counted on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import click

from taskctx_sql import ContextKey, ContextWriter, Store, TaskContext, Write
from tests.benchmarks import servers
from tests.support.connections import available, new_connection
from tests.support.wire import Network

# By then all connections are made, and the drivers have prepared what they prepare.
WARM, COUNTED = 6, 3
HISTORY = 150
# So long after a save, what tells those who watch is through.
QUIET = 0.08


@dataclass
class Program:
    """What is called, on a context that is made ready for it."""

    store: Store
    context: TaskContext = field(init=False)
    again: ContextWriter = field(init=False)
    number: int = 0

    def new_context(self, limit: int | None = None) -> TaskContext:
        return TaskContext({"user_id": "u", "chat_id": "c"}, store=self.store, history_limit=limit)

    async def begin(self) -> None:
        self.context = self.new_context()
        for number in range(HISTORY):
            self.context.add_context_update("message", number)
        await self.context.save()
        self.again = ContextWriter(self.store, ContextKey("u", "written"))
        await self.again.write(updates=[("message", number) for number in range(HISTORY)])

    def add(self, *, trackers: bool = False) -> None:
        self.number += 1
        self.context.add_context_update("message", self.number)
        if trackers:
            self.context.track_file_operation(f"{self.number}.txt", "read", "agent")
            self.context.track_model_usage("gpt-4", "openai", "chat")

    # Each returns what is counted.

    async def step_save(self) -> Awaitable[object]:
        self.add()
        return self.context.save()

    async def save_with_trackers(self) -> Awaitable[object]:
        self.add(trackers=True)
        return self.context.save()

    async def load(self) -> Awaitable[object]:
        return self.new_context().load()

    async def tail(self) -> Awaitable[object]:
        return self.new_context(100).load()

    async def undo(self) -> Awaitable[object]:
        self.add()
        revision = await self.context.save()
        await self.context.restore(revision - 1)
        return self.context.undo()

    async def fork(self) -> Awaitable[object]:
        self.number += 1
        return self.context.fork(f"fork-{self.number}")

    async def writer(self) -> Awaitable[object]:
        return self.again.write(updates=[("message", 1)], state={"step": 1})

    async def state(self) -> Awaitable[object]:
        return self.store.state(self.again.key)

    async def together(self) -> Awaitable[object]:
        keys = (ContextKey("u", "written"), ContextKey("u", "written, too"))
        return self.store.write_together([Write(key, updates=[("message", 1)]) for key in keys])

    async def pop(self) -> Awaitable[object]:
        return self.store.pop_update(self.again.key)


CALLS: dict[str, Callable[[Program], Awaitable[Awaitable[object]]]] = {
    "step save": Program.step_save,
    "with model and file": Program.save_with_trackers,
    "load": Program.load,
    "last 100": Program.tail,
    "undo": Program.undo,
    "fork": Program.fork,
    "writer": Program.writer,
    "state": Program.state,
    "together": Program.together,
    "pop": Program.pop,
}


async def count(kind: str, server_url: str) -> dict[str, int]:
    """Return how many round trips each call takes over a kind of connection."""
    async with (
        new_connection(kind, server_url) as connection,
        Network(connection.url, 0) as network,
        connection.through(network.url).store() as store,
    ):
        program = Program(store)
        await program.begin()
        return {name: await _fewest(program, call, network) for name, call in CALLS.items()}


async def _fewest(program: Program, call: Callable[[Program], Awaitable[Awaitable[object]]], network: Network) -> int:
    """Return how many round trips a call needs: what a store does beside it can only add some."""
    counts = []
    for _ in range(WARM + COUNTED):
        counted = await call(program)
        await asyncio.sleep(QUIET)
        before = network.round_trips
        await counted
        counts.append(network.round_trips - before)
    return min(counts[WARM:])


async def _count_all(kinds: list[str], server: str, citus_url: str | None) -> dict[str, dict[str, int]]:
    return {kind: await count(kind, (citus_url or "") if kind == "citus" else server) for kind in kinds}


@click.command()
@click.option("--postgres-url", envvar="TASKCTX_TEST_POSTGRES_URL", help="A server; without it one of our own is used.")
@click.option("--citus-url", envvar="TASKCTX_TEST_CITUS_URL", help="The coordinator of a Citus, to count there, too.")
def main(postgres_url: str | None, citus_url: str | None) -> None:
    """Count the round trips of each call over each kind of connection, and print them as the page on speed has them."""
    with servers.postgres(postgres_url) as server:
        found = asyncio.run(_count_all(available(citus_url), server, citus_url))
    names = list(CALLS)
    click.echo(f"| | {' | '.join(names)} |\n| --- |{' --- |' * len(names)}")
    for kind, counts in found.items():
        click.echo(f"| {kind} | {' | '.join(str(counts[name]) for name in names)} |")


if __name__ == "__main__":
    main()
