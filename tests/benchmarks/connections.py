"""Saving over each kind of connection, beside the plain address and beside the raw driver, all in turns."""

from __future__ import annotations

import gc
from contextlib import AsyncExitStack
from dataclasses import replace

from taskctx_sql import TaskContext
from tests.benchmarks import servers
from tests.benchmarks.figures import LIMIT, OURS, Asked, Comparison, Figure, Results
from tests.benchmarks.limits import PostgresLimit
from tests.benchmarks.measuring import Workload, measure
from tests.benchmarks.sides import Ours, Side
from tests.benchmarks.workloads import History, many_contexts, step_save
from tests.support.connections import PLAIN, Connection, new_connection

ROW_LEVEL_SECURITY = "row-level security"

# How much of the plain address's time a step save may take, and how much of its rate many contexts must reach.
MOST_TIME = {
    "postgres engine": 1.3,
    "psycopg": 1.3,
    "psycopg engine": 1.3,
    "schema": 1.3,
    "pgbouncer": 1.5,
    ROW_LEVEL_SECURITY: 1.2,
    "citus": 2.5,
}
LEAST_RATE = {"postgres engine": 0.8, "pgbouncer": 0.6, "citus": 0.2}
LEAST_RATE_OF_A_USER_EACH = {ROW_LEVEL_SECURITY: 0.7}


class Over(Ours):
    """This library over one kind of connection.

    Args:
        connection: The connection.
        a_user_each: Give every chat a user of its own, rather than all chats one.
    """

    def __init__(self, connection: Connection, *, a_user_each: bool = False) -> None:
        super().__init__(connection.address)
        self.name = connection.kind
        self._connection = connection
        self._a_user_each = a_user_each

    async def open(self) -> None:
        self._engine = self._connection.engine()
        self.store = await self._connection.open(self._engine)

    async def close(self) -> None:
        await super().close()
        if self._engine is not None:
            await self._engine.dispose()

    def _context(self, chat: int, limit: int | None = None) -> TaskContext:
        user = f"{self.prefix}-{chat}" if self._a_user_each else self.prefix
        return TaskContext({"user_id": user, "chat_id": chat}, store=self.store, history_limit=limit)


async def compare(
    kinds: list[str], server: str, citus_url: str | None, results: Results, *, quick: bool, rounds: int
) -> None:
    """Measure some kinds, the plain address among them."""
    async with AsyncExitStack() as stack:
        connections = {
            kind: await stack.enter_async_context(
                new_connection(kind, (citus_url or "") if kind == "citus" else server)
            )
            for kind in kinds
        }
        (limit_url,) = await stack.enter_async_context(servers.databases(server, 1))
        limit = PostgresLimit(limit_url)
        sides: list[Side] = [limit, *map(Over, connections.values())]
        of_a_user_each: list[Side] = [
            Over(connections[kind], a_user_each=True) for kind in (PLAIN, ROW_LEVEL_SECURITY) if kind in connections
        ]
        for side in (*sides, *of_a_user_each):
            await side.open()
            stack.push_async_callback(side.close)
        gc.collect()
        gc.freeze()
        saves = 4 if quick else 20
        beside: Asked = {side.name: {} for side in sides}
        users = replace(many_contexts(200, saves, 50, beside), name=f"200 contexts of a user each x {saves}")
        # Many sides take long for a round, and the machine changes meanwhile: so a round has few of the short saves.
        for measured, workload, asked, times in (
            (sides, step_save(History(10_000), 20, beside), MOST_TIME, rounds * 5),
            (sides, many_contexts(200, saves, 50, beside), LEAST_RATE, rounds),
            (of_a_user_each, users, LEAST_RATE_OF_A_USER_EACH, rounds),
        ):
            await _compare(measured, workload, asked, results, times)


async def _compare(
    sides: list[Side], workload: Workload[Side], asked: dict[str, float], results: Results, rounds: int
) -> None:
    found = Results()
    await measure("connections", sides, [workload], rounds, found)
    of = {figure.side: figure for figure in found.figures}
    results.figures += found.figures
    for kind, figure in of.items():
        if kind == LIMIT:
            continue
        ours = _named(figure)
        if kind != PLAIN:
            results.comparisons.append(Comparison(ours, of[PLAIN], workload.by, asked.get(kind), "plain address"))
        if LIMIT in of:
            results.comparisons.append(Comparison(ours, of[LIMIT], workload.by))


def _named(figure: Figure) -> Figure:
    """The figure as one of ours, under the kind's name."""
    return replace(figure, engine=figure.side, side=OURS)
