"""The command ``tail``, which follows a context."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncGenerator
from contextlib import aclosing

import click

from taskctx_sql.cli import failures, output
from taskctx_sql.cli.commands import command
from taskctx_sql.cli.options import database_option, rows_format_option, schema_option
from taskctx_sql.cli.stores import opened_store
from taskctx_sql.errors import ContextNotFoundError
from taskctx_sql.model import ContextKey, StoredUpdate
from taskctx_sql.stores import Feature, Store


@command()
@click.argument("user")
@click.argument("chat")
@database_option
@schema_option
@click.option(
    "--lines",
    type=click.IntRange(min=0),
    metavar="N",
    default=10,
    show_default=True,
    help="How many older updates to print first.",
)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.05),
    metavar="SECONDS",
    default=0.5,
    show_default=True,
    help="Seconds between polls, at most.",
)
@click.option("--wait", is_flag=True, help="Wait for a context that does not exist yet.")
@rows_format_option
def tail(
    user: str,
    chat: str,
    database_url: str | None,
    schema: str | None,
    lines: int,
    interval: float,
    wait: bool,
    form: str,
) -> None:
    """Follow a context as it grows.

    Prints its updates, whichever process writes them, until Ctrl-C or SIGTERM. A context that is removed is waited
    for again. --json prints one object a line.

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
        async with opened_store(database_url, schema, may_be_missing=wait) as store:
            loaded = await store.load(key, history_limit=lines or 1)
            if not loaded.revision and not wait:
                raise click.ClickException(_missing(store, key))
            if form == "csv":
                output.print_updates_csv([])
            for row in loaded.updates if lines else []:
                _print_update(row, form)
            last = max(loaded.seqs, default=0)
            async with aclosing(follow_updates(store, key, last, loaded.created_at, interval)) as coming:
                async for row in coming:
                    _print_update(row, form)

    # Both are how one ends it.
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(follow())


async def follow_updates(
    store: Store, key: ContextKey, last: int, created_at: float | None, interval: float
) -> AsyncGenerator[StoredUpdate, None]:
    """Yield the updates after a seq; wait for the context if it does not exist."""
    while Feature.REVISIONS not in store.features:
        async for row in store.updates(key, after=last):
            yield row
            last = row.seq
        await asyncio.sleep(interval)
    while True:
        try:
            async with aclosing(store.watch(key, after=last, created_at=created_at, poll_interval=interval)) as coming:
                async for row in coming:
                    yield row
        except ContextNotFoundError:
            # It does not exist yet, or was deleted, and then begins again.
            last, created_at = 0, None
        await asyncio.sleep(interval)


def _missing(store: Store, key: ContextKey) -> str:
    return (
        f"there is no context of user {key.user_id!r} and chat {key.chat_id!r} in {store.database_url}: "
        f"use --wait to wait for it; {failures.hint('list')} shows which there are"
    )


def _print_update(row: StoredUpdate, form: str) -> None:
    if form == "json":
        output.print_json(output.update_object(row), indent=None)
    elif form == "csv":
        output.print_updates_csv([row.update], heading=False)
    else:
        output.print_line(output.update_text(row))
