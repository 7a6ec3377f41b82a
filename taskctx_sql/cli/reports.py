"""The commands that print what was recorded: ``report`` and ``list``."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from taskctx_sql.cli import options, output, report_columns, tables
from taskctx_sql.cli.commands import command
from taskctx_sql.cli.report_columns import LISTED, RARE, REPORTS, TIMES
from taskctx_sql.cli.stores import opened_store
from taskctx_sql.concurrency import on_thread
from taskctx_sql.limits import MAX_NUMBER
from taskctx_sql.locations import is_address
from taskctx_sql.model import ContextSummary
from taskctx_sql.model.cost_rows import COST_BY
from taskctx_sql.model.report_filters import seconds
from taskctx_sql.model.report_rows import column_fields
from taskctx_sql.stores import Feature

if TYPE_CHECKING:
    from taskctx_sql.sql.reports import Report

# How many rows a table or a page has if no limit is given.
ROWS: Final = 50

_sort_option: Final = click.option("--sort", metavar="COLUMN", help="Sort by a column, such as cost or duration.")


@command()
@click.argument("name", type=click.Choice(list(REPORTS)), required=False, metavar="[NAME]")
@options.filter_options
@click.option("--failed", is_flag=True, help="Only failed runs, or tasks with one.")
@click.option("--unfinished", is_flag=True, help="Only runs that did not end, or tasks with one.")
@click.option("--by", metavar="WHAT", help="Of costs: day, model, user, task, tree, or label:NAME. Default: day.")
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
    by: str | None,
    html: Path | None,
    replace: bool,
    form: str,
    **filters: Any,
) -> None:
    """Print a report: what happened, cost, failed, is growing.

    NAME is one of: tasks, runs, models, tools, calls, open, files, activity, errors, largest, busiest, users, trees,
    costs, speed, running. "open" are the calls of tools without a result, which a crash left; "speed" is that of
    models, and "running" has the runs without an end.

    With --html no NAME is needed: the page has all reports, or with --user and --chat those of one task.

    \b
    taskctx report runs --failed --since 24h
    taskctx report tasks --sort cost
    taskctx report costs --by label:team --since 30d
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
    if by is not None and name != "costs":
        raise click.UsageError("--by is for the report costs")
    if html is not None and filters["sort"] is not None:
        raise click.UsageError("--sort is for a report, not for a page")
    if html is not None and is_address(html):
        raise click.UsageError("--html takes a file path, not a URL")
    if html is not None and not replace:
        _refuse_to_overwrite(html)
    async with opened_store(database_url, schema) as store:
        if html is not None:
            from taskctx_sql.pages import collect_frozen, render_frozen

            text = render_frozen(await collect_frozen(store, **filters))
            await on_thread(_write_page, html, text, replace=replace)
            output.print_result({"html": str(html)}, f"Wrote {html}", form)
            return
        assert name is not None
        found: Callable[..., Report[Any]] = getattr(store.reports, "calls" if name == "open" else name)
        if name == "open":
            found = partial(found, outcome="open")
        elif name == "costs":
            found = partial(found, **_added_up_by(by or "day"))
        await _print_report(found, name, REPORTS[name], form, filters)


@command("list")
@options.database_option
@options.schema_option
@options.user_option
@options.since_option
@options.until_option
@options.label_option("Only contexts with this label; may be given several times.")
@click.option("--title", metavar="TEXT", help="Only contexts whose title contains this text.")
@options.limit_option
@options.rows_format_option
@options.asynchronous
async def list_contexts(database_url: str | None, schema: str | None, form: str, **filters: Any) -> None:
    """List the contexts, newest first.

    A folder of JSON files has no users: every user gets all contexts. It has no labels either.

    \b
    taskctx list --user u1 -d tasks.db
    taskctx list --label framework=langgraph --since 7d
    """
    async with opened_store(database_url, schema) as store:
        if Feature.USERS in store.features:
            await _print_report(store.reports.contexts, "contexts", LISTED, form, filters)
            return
        if filters["until"] is not None:
            raise click.UsageError("--until is for databases: files do not say when a context was created")
        since = None if filters["since"] is None else seconds(filters["since"])
        only = {"labels": filters["labels"], "title": filters["title"], "updated_since": since}
        rows = await store.contexts(filters["user_id"], limit=MAX_NUMBER, **only)
    limit = filters["limit"] or (ROWS if form == "table" else None)
    shown = " ".join(word for word in LISTED.split() if _is_filled(word.partition(":")[0], rows))
    _print_rows(rows[:limit], ContextSummary, "contexts", shown, form, {"rows": len(rows)})


def _added_up_by(words: str) -> dict[str, str]:
    """Return the arguments of the report of costs for what --by says."""
    by, colon, label = words.partition(":")
    if by not in COST_BY or (by == "label") != bool(colon and label):
        raise click.UsageError(f"--by is {', '.join(one for one in COST_BY if one != 'label')}, or label:NAME")
    return {"by": by, "label": label} if label else {"by": by}


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
    limit = filters["limit"] or (ROWS if form == "table" else None)
    found = report_of(**{**filters, "limit": limit})
    rows = await found
    # A column in which every row has the same is not needed.
    needed = (word for word in shown.split() if ":" not in word or not filters.get(word.partition(":")[0]))
    shown = " ".join(word for word in needed if _is_filled(word.partition(":")[0], rows))
    _print_rows(rows, found.row_type, title, shown, form, await found.totals() if form == "table" else {})
    return bool(rows)


def _is_filled(name: str, rows: Sequence[Any]) -> bool:
    """Return whether a column that few have is needed for these rows."""
    return name not in RARE or any(getattr(row, name) for row in rows)


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
    columns = [report_columns.column(name, rank) for name, rank in ranks.items()]
    cells = [[report_columns.cell(name, getattr(row, name)) for name in ranks] for row in rows]
    sums = [report_columns.cell(name, totals[name]) if name in totals else "" for name in ranks]
    total = sums if any(sums) and rows else None
    count = totals["rows"]
    is_cut = len(rows) < count
    heading = f"{title}: {len(rows):,} of {count:,}" if is_cut else f"{title}: {count:,}"
    remedy = "use a wider terminal, --format json or --format csv"
    tables.print_table(heading, columns, cells, total=total, remedy=remedy)
    if is_cut:
        tables.print_line(f"{count - len(rows):,} more: --limit {count} shows all.")


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
    fields_of_row = [field.name for field in column_fields(row_type)]
    names = []
    for name in fields_of_row:
        names.append(name)
        if name in TIMES and (text := _text_of(name)) not in fields_of_row:
            names.append(text)
    return names


def _text_of(name: str) -> str:
    return f"{name}_utc" if name == "timestamp" else f"{name.removesuffix('_at')}_utc"


def _seconds_of(name: str) -> str:
    return next(time for time in TIMES if _text_of(time) == name)
