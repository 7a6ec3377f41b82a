"""``python -m tests.benchmarks.tenants``: what row-level security costs, beside the same account without it."""

from __future__ import annotations

import asyncio
import gc
import sys
from contextlib import AsyncExitStack

import click
from rich.console import Console

from taskctx_sql import TaskContext, schema
from tests.benchmarks import servers
from tests.benchmarks.figures import OURS, Asked, Results
from tests.benchmarks.measuring import Workload, measure
from tests.benchmarks.sides import Ours, Side
from tests.benchmarks.table import table
from tests.benchmarks.workloads import History, bulk_save, load, load_newest, many_contexts, step_save
from tests.support import accounts

WITHOUT = "without"
BESIDE: Asked = {WITHOUT: {}}


class Account(Ours):
    """This library, as an account of the application.

    Args:
        url: The database as that account reaches it.
        name: What the table calls it.
        a_user_each: Give every chat a user of its own, rather than all chats one.
    """

    def __init__(self, url: str, name: str, *, a_user_each: bool) -> None:
        super().__init__(url)
        self.name = name
        self._a_user_each = a_user_each

    def _context(self, chat: int, limit: int | None = None) -> TaskContext:
        user = f"{self.prefix}-{chat}" if self._a_user_each else self.prefix
        return TaskContext({"user_id": user, "chat_id": chat}, store=self.store, history_limit=limit)


def of_one_user(quick: bool) -> list[list[Workload[Side]]]:
    few, many = (1, 10) if quick else (3, 100)
    history = History(10_000)
    return [
        [step_save(history, many, BESIDE), step_save(history, many, BESIDE, trackers=True)],
        [bulk_save(10_000, few, BESIDE)],
        [load(history, few, BESIDE, touch=False), load(history, few, BESIDE, touch=True)],
        [load_newest(history, 100, BESIDE)],
        [many_contexts(200, 4 if quick else 20, 50, BESIDE)],
    ]


async def run(server: str, quick: bool) -> Results:
    results = Results()
    async with servers.databases(server, 2) as (guarded, open_to_all), AsyncExitStack() as stack:
        await schema.upgrade(guarded, row_level_security=True)
        await schema.upgrade(open_to_all)
        urls = [
            (OURS, await stack.enter_async_context(accounts.application(guarded))),
            (WITHOUT, await stack.enter_async_context(accounts.application(open_to_all))),
        ]
        for engine, a_user_each, asked in (
            ("one user", False, of_one_user(quick)),
            ("a user each", True, [[many_contexts(200, 4 if quick else 20, 50, BESIDE)]]),
        ):
            sides = [Account(url, name, a_user_each=a_user_each) for name, url in urls]
            async with AsyncExitStack() as opened:
                for side in sides:
                    await side.open()
                    opened.push_async_callback(side.close)
                gc.collect()
                for workloads in asked:
                    await measure(engine, sides, workloads, 2 if quick else 5, results)
    return results


@click.command()
@click.option("--quick", is_flag=True, help="Fewer repetitions.")
@click.option("--postgres-url", envvar="TASKCTX_TEST_POSTGRES_URL", help="A server; without it one of our own is used.")
def main(quick: bool, postgres_url: str | None) -> None:
    """Measure saving and loading under row-level security, beside the same without it."""
    with servers.postgres(postgres_url) as server:
        results = asyncio.run(run(server, quick))
    Console(width=None if sys.stdout.isatty() else 100, highlight=False).print(table(results.comparisons))


if __name__ == "__main__":
    main()
