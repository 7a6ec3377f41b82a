"""The commands that tell what was recorded: ``report``, ``list``, ``search`` and ``tail``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import click

from taskctx_sql.cli import output
from taskctx_sql.cli.options import (
    asynchronous,
    chat_option,
    database_option,
    json_option,
    limit_option,
    opened_store,
    schema_option,
    since_option,
    until_option,
    user_option,
)
from taskctx_sql.concurrency import on_thread
from taskctx_sql.errors import ContextNotFoundError
from taskctx_sql.locations import is_address
from taskctx_sql.model import ContextKey, ContextSummary, ContextUpdate, StoredUpdate
from taskctx_sql.stores import Feature, Store

# What each report shows in a table; JSON and CSV have everything.
REPORTS: Final = {
    "tasks": "created_at user_id chat_id updates errors files calls cost duration",
    "runs": "started_at user_id chat_id outcome duration saves error",
    "models": "day model_id provider_id mode calls input_tokens output_tokens cost",
    "files": "timestamp user_id chat_id operation source model_id path",
    "activity": "day update_type updates removed bytes",
    "errors": "timestamp user_id chat_id kind message",
    "largest": "user_id chat_id bytes largest_update updates removed saves files runs updated_at",
    "busiest": "user_id chat_id updates removed saves files runs bytes updated_at",
    "users": "user_id contexts updates removed bytes updated_at",
}
_LISTED: Final = "user_id chat_id revision created_at updated_at"
_HITS: Final = "timestamp user_id chat_id seq update_type data"


def register(main: click.Group) -> None:
    """Add the commands."""
    for command in (report, list_contexts, search, tail):
        main.add_command(command)


@click.command()
@click.argument("name", type=click.Choice(list(REPORTS)), required=False)
@database_option
@schema_option
@user_option
@chat_option
@since_option
@until_option
@limit_option
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with plots, for a browser.")
@click.option("--replace", is_flag=True, help="Replace the page that FILE is, if there is one.")
@json_option
@asynchronous
async def report(
    name: str | None,
    database_url: str | None,
    schema: str | None,
    html: Path | None,
    replace: bool,
    form: str,
    as_json: bool,
    **filters: Any,
) -> None:
    """Print report NAME: what happened, what it cost, what failed, what is growing.

    With --html no NAME is needed: the page has them all, and with --user and --chat it is that of one task.

    \b
    taskctx report models --since 7d
    taskctx report errors --user u1 --format csv
    taskctx report --html report.html --since 2026-01-01
    """
    if (name is None) == (html is None):
        raise click.UsageError(f"name one report ({', '.join(REPORTS)}), or use --html FILE")
    if html is not None and is_address(html):
        raise click.UsageError("--html is the path of a page, and no address")
    if html is not None and not replace:
        _refuse_to_overwrite(html)
    async with opened_store(database_url, schema) as store:
        if html is not None:
            from taskctx_sql.reports import collect, render

            text = render(await collect(store, **filters))
            await on_thread(_write_page, html, text, replace=replace)
            _say({"html": str(html)}, f"Wrote {html}", as_json)
            return
        assert name is not None
        query: Any = getattr(store.reports, name)
        rows = await query(**filters)
    _print_rows(rows, name, REPORTS[name], "json" if as_json else form)


@click.command("list")
@database_option
@schema_option
@user_option
@since_option
@until_option
@limit_option
@json_option
@asynchronous
async def list_contexts(database_url: str | None, schema: str | None, as_json: bool, **filters: Any) -> None:
    """Print which contexts there are, the newest first.

    In a folder of JSON files a context is the same for every user.

    \b
    taskctx list --user u1 --database-url sqlite:///tasks.db
    """
    rows: Sequence[ContextSummary]
    async with opened_store(database_url, schema) as store:
        if Feature.USERS in store.features:
            rows = await store.reports.contexts(**filters)
        else:
            rows = await store.contexts(filters["user_id"] or "anonymous", limit=filters["limit"])
    _print_rows(rows, "contexts", _LISTED, "json" if as_json else "table")


@click.command()
@click.argument("text")
@database_option
@schema_option
@user_option
@chat_option
@since_option
@until_option
@limit_option
@click.option("--type", "update_type", metavar="TYPE", help="Only updates of this type.")
@click.option("--case-sensitive", is_flag=True, help="Tell a from A.")
@json_option
@asynchronous
async def search(
    text: str,
    database_url: str | None,
    schema: str | None,
    update_type: str | None,
    case_sensitive: bool,
    as_json: bool,
    **filters: Any,
) -> None:
    """Print the updates that have TEXT in their data, the newest first, those that left the history included.

    Exit code 1 says that there are none.

    \b
    taskctx search "connection refused" --type error --since 7d
    """
    async with opened_store(database_url, schema) as store:
        hits = await store.reports.search(text, update_type=update_type, case_sensitive=case_sensitive, **filters)
    _print_rows(hits, "found", _HITS, "json" if as_json else "table")
    if not hits:
        sys.exit(1)


@click.command()
@click.argument("user")
@click.argument("chat")
@database_option
@schema_option
@click.option("--lines", type=click.IntRange(min=0), default=10, show_default=True, help="Older updates shown first.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.05),
    default=0.5,
    show_default=True,
    help="Seconds between looks, at most.",
)
@json_option
def tail(
    user: str, chat: str, database_url: str | None, schema: str | None, lines: int, interval: float, as_json: bool
) -> None:
    """Follow the context of USER and CHAT as it grows, whichever process writes it, until Ctrl-C or SIGTERM.

    A context that is not there yet is waited for. --json prints an object a line.

    \b
    taskctx tail u1 c1 --database-url sqlite:///tasks.db
    """

    async def follow() -> None:
        key = ContextKey(user, chat)
        task = asyncio.current_task()
        assert task is not None
        # Signals come to the main thread only, and to no event loop on Windows.
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with opened_store(database_url, schema) as store:
            newest = [row async for row in _newest(store, key, lines)]
            last = max((row.seq for row in newest), default=0)
            if not lines:
                last = max([row.seq async for row in _newest(store, key, 1)], default=0)
            for row in reversed(newest):
                _print_update(row, as_json)
            async with aclosing(_follow(store, key, last, interval)) as coming:
                async for row in coming:
                    _print_update(row, as_json)

    try:
        asyncio.run(follow())
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass
    except BrokenPipeError:
        # Whoever read it has gone; nothing is left to be told on the way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _follow(store: Store, key: ContextKey, last: int, interval: float) -> AsyncGenerator[StoredUpdate, None]:
    """Yield what comes after a seq; wait for the context if it is not there."""
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
            # Not yet, or deleted; if it comes again, it begins anew.
            last = 0
        await asyncio.sleep(interval)


async def _newest(store: Store, key: ContextKey, count: int) -> AsyncIterator[StoredUpdate]:
    if count:
        async for row in store.updates(key, newest_first=True):
            yield row
            count -= 1
            if not count:
                return


def _print_update(row: StoredUpdate, as_json: bool) -> None:
    update: ContextUpdate = row.update
    if as_json:
        fields = {name: output.stored(value) for name, value in update.to_dict().items()}
        output.print_json_line({"seq": row.seq, **fields})
    else:
        data = output.text_of(update.data)
        output.say(f"{output.when(update.timestamp)}  {update.update_type!s:16} {data}")


def _refuse_to_overwrite(path: Path) -> None:
    if os.path.lexists(path):
        raise click.ClickException(f"{path} is there already: name another file, or use --replace")


def _write_page(path: Path, page: str, *, replace: bool) -> None:
    """Write a page that its owner alone can read; in the place of a link, not through it."""
    written = path.with_name(f".taskctx-{secrets.token_hex(8)}.tmp") if replace else path
    with os.fdopen(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(page)
    if replace:
        written.replace(path)


def _say(value: Any, text: str, as_json: bool) -> None:
    if as_json:
        output.print_json(value)
    else:
        output.say(text)


def _print_rows(rows: Sequence[Any], title: str, shown: str, form: str) -> None:
    if form == "json":
        output.print_json(rows)
    elif form == "csv":
        names = [field.name for field in fields(rows[0])] if rows else []
        if names:
            output.print_csv(names, [[getattr(row, name) for name in names] for row in rows])
    else:
        columns = shown.split()
        cells = [[_cell(name, getattr(row, name)) for name in columns] for row in rows]
        output.print_table(f"{title}: {len(rows)}", [_heading(name) for name in columns], cells)


def _heading(name: str) -> str:
    times = {
        "timestamp": "when (UTC)",
        "created_at": "created (UTC)",
        "updated_at": "saved (UTC)",
        "started_at": "began (UTC)",
        "duration": "seconds",
    }
    return times.get(name, name.removesuffix("_id").replace("_", " "))


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name.endswith("_at") or name == "timestamp":
        return output.when(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}" if name == "duration" else f"{value:,.4f}"
    return str(value)
