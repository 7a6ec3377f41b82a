"""The commands that print what was recorded: ``report``, ``list`` and ``search``."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import click

from taskctx_sql.cli import options, output
from taskctx_sql.cli.commands import command
from taskctx_sql.cli.stores import opened_store
from taskctx_sql.concurrency import on_thread
from taskctx_sql.locations import is_address
from taskctx_sql.model import ContextSummary
from taskctx_sql.stores import Feature

# The columns that each report prints in a table; JSON and CSV have all.
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
_HEADINGS: Final = {
    "timestamp": "when (UTC)",
    "created_at": "created (UTC)",
    "updated_at": "saved (UTC)",
    "started_at": "began (UTC)",
    "duration": "seconds",
}


@command()
@click.argument("name", type=click.Choice(list(REPORTS)), required=False, metavar="[NAME]")
@options.filter_options
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write an HTML page with charts.")
@click.option("--replace", is_flag=True, help="Replace the file if it exists.")
@options.rows_format_option
@options.asynchronous
async def report(
    name: str | None,
    database_url: str | None,
    schema: str | None,
    html: Path | None,
    replace: bool,
    form: str,
    **filters: Any,
) -> None:
    """Print a report: what happened, cost, failed, is growing.

    NAME is one of: tasks, runs, models, files, activity, errors, largest, busiest, users.

    With --html no NAME is needed: the page has all reports, or with --user and --chat those of one task.

    \b
    taskctx report models --since 7d
    taskctx report errors --user u1 --format csv
    taskctx report --html report.html --since 2026-01-01
    """
    if (name is None) == (html is None):
        raise click.UsageError(f"give one report ({', '.join(REPORTS)}), or use --html FILE")
    if html is not None and is_address(html):
        raise click.UsageError("--html takes a file path, not a URL")
    if html is not None and not replace:
        _refuse_to_overwrite(html)
    async with opened_store(database_url, schema) as store:
        if html is not None:
            from taskctx_sql.reports import collect, render

            text = render(await collect(store, **filters))
            await on_thread(_write_page, html, text, replace=replace)
            output.print_result({"html": str(html)}, f"Wrote {html}", form)
            return
        assert name is not None
        rows = await getattr(store.reports, name)(**filters)
    _print_rows(rows, name, REPORTS[name], form)


@command("list")
@options.database_option
@options.schema_option
@options.user_option
@options.since_option
@options.until_option
@options.limit_option
@options.rows_format_option
@options.asynchronous
async def list_contexts(database_url: str | None, schema: str | None, form: str, **filters: Any) -> None:
    """List the contexts, newest first.

    A folder of JSON files has no users: every user gets all contexts.

    \b
    taskctx list --user u1 -d tasks.db
    """
    rows: Sequence[ContextSummary]
    async with opened_store(database_url, schema) as store:
        if Feature.USERS in store.features:
            rows = await store.reports.contexts(**filters)
        else:
            rows = await store.contexts(filters["user_id"] or "anonymous", limit=filters["limit"])
    _print_rows(rows, "contexts", _LISTED, form)


@command()
@click.argument("text")
@options.filter_options
@click.option("--type", "update_type", metavar="TYPE", help="Only updates of this type.")
@click.option("--case-sensitive", is_flag=True, help="Distinguish upper and lower case.")
@options.rows_format_option
@options.asynchronous
async def search(
    text: str,
    database_url: str | None,
    schema: str | None,
    update_type: str | None,
    case_sensitive: bool,
    form: str,
    **filters: Any,
) -> None:
    """Search the data of all updates, including removed ones.

    Prints the updates that have TEXT in their data, newest first. Exit code 1: there are none.

    \b
    taskctx search refused --type error --since 7d
    """
    async with opened_store(database_url, schema) as store:
        hits = await store.reports.search(text, update_type=update_type, case_sensitive=case_sensitive, **filters)
    _print_rows(hits, "found", _HITS, form)
    if not hits:
        sys.exit(1)


def _refuse_to_overwrite(path: Path) -> None:
    if os.path.lexists(path):
        raise click.ClickException(f"{path} exists: use another file, or --replace")


def _write_page(path: Path, page: str, *, replace: bool) -> None:
    """Write a page that only its owner can read. A link is replaced, and not followed."""
    written = path.with_name(f".taskctx-{secrets.token_hex(8)}.tmp") if replace else path
    with os.fdopen(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(page)
    if replace:
        written.replace(path)


def _print_rows(rows: Sequence[Any], title: str, shown: str, form: str) -> None:
    if form == "json":
        output.print_json(rows)
    elif form == "csv":
        if rows:
            names = [field.name for field in fields(rows[0])]
            output.print_csv(names, [[getattr(row, name) for name in names] for row in rows])
    else:
        columns = shown.split()
        cells = [[_cell(name, getattr(row, name)) for name in columns] for row in rows]
        headings = [_HEADINGS.get(name, name.removesuffix("_id").replace("_", " ")) for name in columns]
        output.print_table(f"{title}: {len(rows)}", headings, cells)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name.endswith("_at") or name == "timestamp":
        return output.time_text(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}" if name == "duration" else f"{value:,.4f}"
    return str(value)
