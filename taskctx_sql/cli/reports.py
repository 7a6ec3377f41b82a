"""The commands that print what was recorded: ``report``, ``list`` and ``search``."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from taskctx_sql.cli import options, output, tables
from taskctx_sql.cli.commands import command
from taskctx_sql.cli.stores import opened_store
from taskctx_sql.cli.tables import Column, Kind
from taskctx_sql.concurrency import on_thread
from taskctx_sql.limits import MAX_NUMBER
from taskctx_sql.locations import is_address
from taskctx_sql.model import ContextSummary
from taskctx_sql.stores import Feature

if TYPE_CHECKING:
    from taskctx_sql.sql.reports import Report

# The columns that each report prints in a table; JSON and CSV have all. Where there is no room, those with the highest
# number are left out first, and those without a number never.
REPORTS: Final = {
    "tasks": (
        "created_at:3 user_id:1 chat_id outcome cost runs:5 failed_runs:2 errors:4 updates:6 calls:7 files:8 duration:9"
    ),
    "runs": "started_at:2 user_id:1 chat_id outcome cost duration:3 saves:4 calls:5 error",
    "models": "day:1 model_id provider_id:3 mode:4 calls:2 input_tokens:5 output_tokens:6 cost",
    "files": "timestamp:2 user_id:3 chat_id:1 operation:1 source:5 model_id:4 path",
    "activity": "day update_type updates removed:2 bytes:1",
    "errors": "timestamp:1 user_id:2 chat_id kind:3 message",
    "largest": "user_id:1 chat_id bytes updates:2 largest_update:5 removed:6 saves:7 files:8 runs:4 updated_at:3",
    "busiest": "user_id:1 chat_id updates bytes:2 removed:6 saves:5 files:7 runs:4 updated_at:3",
    "users": "user_id cost contexts:1 runs:3 failed_runs:2 updates:4 bytes:5 removed:7 updated_at:6",
}
_LISTED: Final = "user_id chat_id revision:1 updated_at:2 created_at:3"
_HITS: Final = "timestamp:2 user_id:3 chat_id:1 seq:4 update_type:5 data"
_TIMES: Final = {
    "timestamp": "when (UTC)",
    "created_at": "created (UTC)",
    "updated_at": "saved (UTC)",
    "started_at": "began (UTC)",
}
_HEADINGS: Final = {**_TIMES, "duration": "seconds", "failed_runs": "failed"}
_IDS: Final = ("user_id", "chat_id", "model_id", "provider_id", "mode", "operation", "source", "update_type", "path")
# Their least widths, where they need more than others of their kind.
_WIDE: Final = {"path": 24, "message": 24, "data": 24}
_TEXTS: Final = ("error", "message", "data")
_VALUES: Final = ("day", "kind", "outcome", *_TIMES)

# How many rows a table or a page has if no limit is given.
_ROWS: Final = 50

_sort_option: Final = click.option("--sort", metavar="COLUMN", help="Sort by a column, such as cost or duration.")


@command()
@click.argument("name", type=click.Choice(list(REPORTS)), required=False, metavar="[NAME]")
@options.filter_options
@click.option("--failed", is_flag=True, help="Only failed runs, or tasks with one.")
@click.option("--unfinished", is_flag=True, help="Only runs that did not end, or tasks with one.")
@_sort_option
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write an HTML page with charts.")
@click.option("--replace", is_flag=True, help="Replace the file if it exists.")
@options.rows_format_option
@options.asynchronous
async def report(
    name: str | None,
    database_url: str | None,
    schema: str | None,
    failed: bool,
    unfinished: bool,
    html: Path | None,
    replace: bool,
    form: str,
    **filters: Any,
) -> None:
    """Print a report: what happened, cost, failed, is growing.

    NAME is one of: tasks, runs, models, files, activity, errors, largest, busiest, users.

    With --html no NAME is needed: the page has all reports, or with --user and --chat those of one task.

    \b
    taskctx report runs --failed --since 24h
    taskctx report tasks --sort cost
    taskctx report errors --user u1 --format csv
    taskctx report --html report.html --since 2026-01-01
    """
    if (name is None) == (html is None):
        raise click.UsageError(f"give one report ({', '.join(REPORTS)}), or use --html FILE")
    if failed and unfinished:
        raise click.UsageError("give --failed or --unfinished, not both")
    if outcome := "failed" if failed else "unfinished" if unfinished else None:
        if name not in ("runs", "tasks"):
            raise click.UsageError(f"--{outcome} is for the reports runs and tasks")
        filters["outcome"] = outcome
    if html is not None and filters["sort"] is not None:
        raise click.UsageError("--sort is for a report, not for a page")
    if html is not None and is_address(html):
        raise click.UsageError("--html takes a file path, not a URL")
    if html is not None and not replace:
        _refuse_to_overwrite(html)
    async with opened_store(database_url, schema) as store:
        if html is not None:
            from taskctx_sql.reports import collect, render

            filters["limit"] = filters["limit"] or _ROWS
            text = render(await collect(store, **filters))
            await on_thread(_write_page, html, text, replace=replace)
            output.print_result({"html": str(html)}, f"Wrote {html}", form)
            return
        assert name is not None
        await _print_report(getattr(store.reports, name), name, REPORTS[name], form, filters)


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
    async with opened_store(database_url, schema) as store:
        if Feature.USERS in store.features:
            await _print_report(store.reports.contexts, "contexts", _LISTED, form, filters)
            return
        rows = await store.contexts(filters["user_id"] or "anonymous", limit=MAX_NUMBER)
    limit = filters["limit"] or (_ROWS if form == "table" else None)
    _print_rows(rows[:limit], ContextSummary, "contexts", _LISTED, form, {"rows": len(rows)})


@command()
@click.argument("text")
@options.filter_options
@click.option("--type", "update_type", metavar="TYPE", help="Only updates of this type.")
@click.option("--case-sensitive", is_flag=True, help="Distinguish upper and lower case.")
@_sort_option
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
        found = partial(store.reports.search, text, update_type=update_type, case_sensitive=case_sensitive)
        if not await _print_report(found, "found", _HITS, form, filters):
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


async def _print_report(
    report_of: Callable[..., Report[Any]], title: str, shown: str, form: str, filters: dict[str, Any]
) -> bool:
    """Print a report, and return whether it has any row. Only a table has a limit if none is given."""
    limit = filters["limit"] or (_ROWS if form == "table" else None)
    found = report_of(**{**filters, "limit": limit})
    rows = await found
    # A column in which every row has the same is not needed.
    needed = (word for word in shown.split() if ":" not in word or not filters.get(word.partition(":")[0]))
    shown = " ".join(needed)
    _print_rows(rows, found.row_type, title, shown, form, await found.totals() if form == "table" else {})
    return bool(rows)


def _print_rows(
    rows: Sequence[Any], row_type: type[Any], title: str, shown: str, form: str, totals: dict[str, int | float]
) -> None:
    """Print rows; ``totals`` are over those that a limit leaves out, too."""
    if form == "json":
        output.print_json([_object(row) for row in rows])
    elif form == "csv":
        output.print_csv(_names(row_type), [list(_object(row).values()) for row in rows])
    else:
        _print_table(rows, title, shown, totals)


def _print_table(rows: Sequence[Any], title: str, shown: str, totals: dict[str, int | float]) -> None:
    ranks = {name: int(rank or 0) for name, _, rank in (word.partition(":") for word in shown.split())}
    columns = [_column(name, rank) for name, rank in ranks.items()]
    cells = [[_cell(name, getattr(row, name)) for name in ranks] for row in rows]
    sums = [_cell(name, totals[name]) if name in totals else "" for name in ranks]
    total = sums if any(sums) and rows else None
    count = totals["rows"]
    is_cut = len(rows) < count
    heading = f"{title}: {len(rows):,} of {count:,}" if is_cut else f"{title}: {count:,}"
    remedy = "use a wider terminal, --format json or --format csv"
    tables.print_table(heading, columns, cells, total=total, remedy=remedy)
    if is_cut:
        tables.print_line(f"{count - len(rows):,} more: --limit {count} shows all.")


def _column(name: str, rank: int) -> Column:
    heading = _HEADINGS.get(name, name.removesuffix("_id").removeprefix("update_").replace("_", " "))
    kind: Kind = "id" if name in _IDS else "text" if name in _TEXTS else "value" if name in _VALUES else "number"
    return Column(heading, kind, rank, _WIDE.get(name, 0))


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in _TIMES:
        return output.time_text(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}" if name == "duration" else _amount(value)
    return str(value)


def _amount(cost: float) -> str:
    """Return a cost with four digits, or as many more as one that is smaller has."""
    exact = f"{cost:.9f}".rstrip("0")
    return exact if cost and abs(cost) < 0.00005 else f"{cost:,.4f}"


def _object(row: Any) -> dict[str, Any]:
    """Return a row for JSON and CSV: a time also as text, and stored data as what it is."""
    values: dict[str, Any] = {}
    for name in _names(type(row)):
        if name.endswith("_utc") and not hasattr(row, name):
            values[name] = output.utc_text(values[_seconds_of(name)])
        else:
            value = getattr(row, name)
            values[name] = output.stored_json(value) if name == "data" else value
    return values


def _names(row_type: type[Any]) -> list[str]:
    """Return the columns of rows, each time followed by its text."""
    fields_of_row = [field.name for field in fields(row_type)]
    names = []
    for name in fields_of_row:
        names.append(name)
        if name in _TIMES and (text := _text_of(name)) not in fields_of_row:
            names.append(text)
    return names


def _text_of(name: str) -> str:
    return f"{name}_utc" if name == "timestamp" else f"{name.removesuffix('_at')}_utc"


def _seconds_of(name: str) -> str:
    return next(time for time in _TIMES if _text_of(time) == name)
