"""The commands for maintenance: ``prune``, ``erase`` and ``doctor``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import click

from taskctx_sql import maintenance
from taskctx_sql.cli import output, terminal
from taskctx_sql.cli.commands import command
from taskctx_sql.cli.options import (
    OptionDecorator,
    ParameterType,
    asynchronous,
    database_option,
    format_option,
    rows_format_option,
    schema_option,
)
from taskctx_sql.cli.stores import opened_store, reached, store_url
from taskctx_sql.model import CHECKS, Pruned, Retention
from taskctx_sql.model.moments import read_span
from taskctx_sql.plain_text import counted
from taskctx_sql.stores import ContextStore

yes_option: OptionDecorator = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")


class Age(ParameterType):
    """An age such as 30d, in seconds."""

    name = "AGE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        if isinstance(value, int | float):
            return float(value)
        seconds = read_span(value.strip())
        if seconds is None:
            self.fail(f"{value!r} is not an age: write a number and s, m, h, d or w, such as 30d", param, ctx)
        return seconds


@command()
@database_option
@click.option("--older-than", type=Age(), help="Remove contexts that nobody saved to for longer, such as 90d or 12h.")
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="Keep only each user's N contexts saved last.")
@click.option(
    "--removed", type=Age(), help="Remove what left the working histories longer ago than this; 0s for all of it."
)
@click.option("--expired", is_flag=True, help="Remove state entries that have expired, which nobody reads any more.")
@click.option("--user", metavar="ID", help="Only this user's contexts.")
@schema_option
@click.option("--dry-run", is_flag=True, help="Only count what would be removed.")
@yes_option
@format_option
@asynchronous
async def prune(
    database_url: str | None,
    older_than: float | None,
    keep: int | None,
    removed: float | None,
    expired: bool,
    user: str | None,
    schema: str | None,
    dry_run: bool,
    yes: bool,
    form: str,
) -> None:
    """Permanently remove old or excess data.

    At least one of --older-than, --keep, --removed and --expired is required. Data is removed in batches of some
    milliseconds, with pauses for writers. In a folder of JSON files --keep counts all files.

    \b
    taskctx prune --older-than 90d --removed 30d --dry-run
    taskctx prune --keep 100 --yes -d ./tasks/
    """
    if older_than is None and keep is None and removed is None and not expired:
        raise click.UsageError("--older-than, --keep, --removed or --expired is required")
    retention = Retention(max_age=older_than, max_contexts=keep, removed_age=removed, expired=expired)
    async with opened_store(database_url, schema) as store:
        total = None
        if not dry_run and not yes:
            counted, total = await _prune(store, retention, user, None, dry_run=True)
            _print_pruned(counted, to_error=True)
            click.confirm("Remove it permanently?", abort=True, err=True)
        pruned, _ = await _prune(store, retention, user, total, dry_run=dry_run)
    if form == "json":
        output.print_json(pruned)
    elif not terminal.is_quiet():
        _print_pruned(pruned, to_error=False)


@command()
@click.argument("user")
@click.argument("chat", required=False)
@database_option
@schema_option
@yes_option
@format_option
@asynchronous
async def erase(
    user: str, chat: str | None, database_url: str | None, schema: str | None, yes: bool, form: str
) -> None:
    """Permanently remove all data of a user, or of one context.

    Prints a receipt. Without CHAT everything of USER is removed. Exit code 1: there was nothing to remove.

    \b
    taskctx erase u1 -d tasks.db
    taskctx erase u1 c1 --yes --json
    """
    async with opened_store(database_url, schema) as store:
        if not yes:
            what = f"all data of user {user!r}" if chat is None else f"chat {chat!r} of user {user!r}"
            click.confirm(f"Remove {what} from {store.database_url} permanently?", abort=True, err=True)
        receipt = await maintenance.erase(store, user, chat)
    if form == "json":
        output.print_json(receipt)
    else:
        when = datetime.fromtimestamp(receipt.erased_at, UTC).strftime("%Y-%m-%d %H:%M:%S")
        count = f"{counted(len(receipt.chats), 'context')} of user {user!r}"
        output.say(f"Erased from {receipt.database_url} at {when} UTC: {count}")
        for name in receipt.chats:
            output.say(f"  {name}")
        output.say(_counts(receipt.rows))
    if not receipt.chats:
        raise click.exceptions.Exit(1)


@command()
@database_option
@schema_option
@click.option(
    "--ignore", type=click.Choice(CHECKS), multiple=True, metavar="CHECK", help="Leave out a check; may be repeated."
)
@rows_format_option
@asynchronous
async def doctor(database_url: str | None, schema: str | None, ignore: tuple[str, ...], form: str) -> None:
    """Find what endangers data or costs time, each with its remedy.

    Nothing is changed: the self-tests are of data made up in memory. A line begins with the finding's level and its
    check, which --ignore leaves out. Exit code 1: there is a warning or an error.

    \b
    taskctx doctor -d tasks.db
    taskctx doctor -d tasks.db --ignore sqlite --ignore clock
    """
    url = await reached(store_url(database_url), may_be_missing=True)
    examined = await maintenance.examine(url, schema=schema)
    examination = replace(examined, findings=tuple(one for one in examined.findings if one.check not in ignore))
    if form == "json":
        output.print_json({"ok": examination.ok, **asdict(examination)})
    else:
        output.print_findings(examination.findings, form)
    if not examination.ok:
        raise click.exceptions.Exit(1)


async def _prune(
    store: ContextStore, retention: Retention, user: str | None, total: int | None, *, dry_run: bool
) -> tuple[Pruned, int]:
    """Prune with a progress bar, of a total if it is known, and return how many contexts were gone through."""
    with terminal.progress() as bars:
        bar = bars.add_task("Counting contexts" if dry_run else "Removing contexts", total=total or None)
        pruned = await maintenance.prune(
            store, retention, user_id=user, dry_run=dry_run, progress=lambda done: bars.update(bar, completed=done)
        )
        return pruned, int(bars.tasks[0].completed)


def _print_pruned(pruned: Pruned, *, to_error: bool) -> None:
    verb = "Would remove" if pruned.dry_run else "Removed"
    lines = [
        f"{verb} {counted(pruned.by_age, 'context')} because of their age, {pruned.by_count:,} because there are too "
        f"many; {_counts(pruned.rows)}"
    ]
    if pruned.in_use:
        lines.append(f"Kept {counted(pruned.in_use, 'context')} that somebody saved to meanwhile.")
    if pruned.batches:
        took = f"in {pruned.seconds:.1f} s, the longest took {pruned.longest * 1000:.0f} ms."
        lines.append(f"{counted(pruned.batches, 'batch')} {took}")
    for line in lines:
        output.print_line(line, to_error=to_error)


def _counts(rows: Mapping[str, int]) -> str:
    # A table is named for its rows, in the plural.
    names = {name: name.removeprefix("taskctx_").removesuffix("s") for name in rows} | {"taskctx_state": "state entry"}
    return ", ".join(counted(count, names[name]) for name, count in rows.items()) or "nothing"
