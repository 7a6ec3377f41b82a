"""The command ``tail``, which follows a context."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

import click

from taskctx_sql.cli import output
from taskctx_sql.cli.options import database_option, json_option, opened_store, schema_option
from taskctx_sql.errors import ContextNotFoundError
from taskctx_sql.model import ContextKey, StoredUpdate
from taskctx_sql.stores import Feature, Store


@click.command()
@click.argument("user")
@click.argument("chat")
@database_option
@schema_option
@click.option(
    "--lines", type=click.IntRange(min=0), default=10, show_default=True, help="How many older updates to print first."
)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.05),
    default=0.5,
    show_default=True,
    help="Seconds between polls, at most.",
)
@json_option
def tail(
    user: str, chat: str, database_url: str | None, schema: str | None, lines: int, interval: float, as_json: bool
) -> None:
    """Follow the context of USER and CHAT as it grows, whichever process writes it, until Ctrl-C or SIGTERM.

    Waits for a context that does not exist yet. --json prints one object a line.

    \b
    taskctx tail u1 c1 -d tasks.db
    """

    async def follow() -> None:
        key = ContextKey(user, chat)
        task = asyncio.current_task()
        assert task is not None
        # Signals are delivered to the main thread only, and to no event loop on Windows.
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with opened_store(database_url, schema) as store:
            newest = [row async for row in _newest(store, key, lines or 1)]
            last = max((row.seq for row in newest), default=0)
            for row in reversed(newest if lines else []):
                _print_update(row, as_json)
            async with aclosing(_follow(store, key, last, interval)) as coming:
                async for row in coming:
                    _print_update(row, as_json)

    try:
        asyncio.run(follow())
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass
    except BrokenPipeError:
        # The reader has gone; keep the interpreter from reporting that again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _follow(store: Store, key: ContextKey, last: int, interval: float) -> AsyncGenerator[StoredUpdate, None]:
    """Yield the updates after a seq; wait for the context if it does not exist."""
    while Feature.REVISIONS not in store.features:
        async for row in store.updates(key, after=last):
            yield row
            last = row.seq
        await asyncio.sleep(interval)
    while True:
        try:
            async with aclosing(store.watch(key, after=last, poll_interval=interval)) as coming:
                async for row in coming:
                    yield row
        except ContextNotFoundError:
            # It does not exist yet, or was deleted, and then begins again.
            last = 0
        await asyncio.sleep(interval)


async def _newest(store: Store, key: ContextKey, count: int) -> AsyncIterator[StoredUpdate]:
    async for row in store.updates(key, newest_first=True):
        yield row
        count -= 1
        if not count:
            return


def _print_update(row: StoredUpdate, as_json: bool) -> None:
    if as_json:
        output.print_json(output.update_object(row), indent=None)
    else:
        output.print_line(output.update_text(row))


COMMANDS: Final = (tail,)
