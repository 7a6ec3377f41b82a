"""The commands about the schema of a database: ``upgrade`` and ``current``."""

from __future__ import annotations

import sys
from typing import Final

import click

import taskctx_sql
from taskctx_sql.cli import output, terminal
from taskctx_sql.cli.commands import command
from taskctx_sql.cli.options import asynchronous, database_option, format_option, schema_option
from taskctx_sql.cli.stores import needed_database, reached

# What the first report about an index that is built does not count.
_FIRST_PORTION: Final = 1_000


@command()
@database_option
@schema_option
@click.option("--revision", default="head", show_default=True, help="The revision to upgrade to.")
@click.option(
    "--row-level-security/--no-row-level-security",
    default=None,
    help="On Postgres, whether accounts other than the owner see one user at a time.",
)
@click.option(
    "--search/--no-search", default=None, help="Whether there is a search index; it is built, with what is there."
)
@click.option(
    "--sums/--no-sums", default=None, help="Whether there are daily sums for reports; they are built, of what is there."
)
@click.option("--sql", is_flag=True, help="Print the SQL of the upgrade instead, and change nothing.")
@format_option
@asynchronous
async def upgrade(
    database_url: str | None,
    schema: str | None,
    revision: str,
    row_level_security: bool | None,
    search: bool | None,
    sums: bool | None,
    sql: bool,
    form: str,
) -> None:
    """Set up a database, or bring it up to this version. Its data is kept.

    \b
    taskctx upgrade -d tasks.db
    taskctx upgrade -d postgresql://me@host/db
    taskctx upgrade --row-level-security
    taskctx upgrade --search
    taskctx upgrade --sums
    taskctx upgrade --sql > upgrade.sql
    """
    url = await reached(needed_database(database_url, "an upgrade"), may_be_missing=True)
    if sql:
        if revision != "head" or form == "json":
            raise click.UsageError("--sql prints the upgrade to the newest revision, without --revision and --json")
        options = {"row_level_security": row_level_security, "search": search, "sums": sums}
        statements = await taskctx_sql.schema.upgrade_sql(url, schema=schema, **options)
        # As it is, for another program.
        click.echo(statements.rstrip() or f"-- The schema is already at {await taskctx_sql.schema.head()}.")
        return
    before = await taskctx_sql.schema.current(url, schema=schema)
    with terminal.progress() as progress:
        building = progress.add_task("Building", total=None, visible=False)

        def show(left: int) -> None:
            # What is built after something else begins with more.
            total = max(progress.tasks[0].total or 0, left + _FIRST_PORTION)
            progress.update(building, total=total, completed=total - left, visible=True)

        wanted = {"row_level_security": row_level_security, "search": search, "sums": sums}
        await taskctx_sql.schema.upgrade(url, revision, schema=schema, progress=show, **wanted)
    after = await taskctx_sql.schema.current(url, schema=schema)
    is_on = await taskctx_sql.schema.row_level_security(url, schema=schema)
    if form == "json":
        head = await taskctx_sql.schema.head()
        found = {"before": before, "after": after, "head": head, "row_level_security": is_on}
        output.print_json({**found, **await _backlogs(url, schema)})
        return
    if before == after:
        output.say(f"The schema is already at {after}.")
    else:
        output.say(f"The schema went from {before or 'nothing'} to {after}.")
    if is_on or row_level_security is not None:
        output.say(f"Row-level security is {'on' if is_on else 'off'}.")
    if search is not None:
        output.say("The search index is built." if search else "There is no search index.")
    if sums is not None:
        output.say("The daily sums are built." if sums else "There are no daily sums.")


@command()
@database_option
@schema_option
@format_option
@asynchronous
async def current(database_url: str | None, schema: str | None, form: str) -> None:
    """Print the revision of a database's schema.

    Also the one that this version needs, and whether there are row-level security, a search index and daily sums. Exit
    code 1: the revisions differ.

    \b
    taskctx current -d tasks.db
    """
    url = await reached(needed_database(database_url, "a schema"), may_be_missing=True)
    revision, head = await taskctx_sql.schema.current(url, schema=schema), await taskctx_sql.schema.head()
    is_on = await taskctx_sql.schema.row_level_security(url, schema=schema)
    backlogs = await _backlogs(url, schema)
    if form == "json":
        found = {"current": revision, "head": head, "row_level_security": is_on}
        output.print_json({**found, **backlogs})
    else:
        parts = [f"{revision or 'nothing'} (this version needs {head})"]
        parts += ["row-level security is on"] if is_on else []
        parts += _readiness("search index", "updates", backlogs["search_backlog"])
        parts += _readiness("daily sums", "tasks", backlogs["sums_backlog"])
        output.print_line(", ".join(parts))
    if revision != head:
        sys.exit(1)


async def _backlogs(url: str, schema: str | None) -> dict[str, int | None]:
    search = await taskctx_sql.schema.search_backlog(url, schema=schema)
    return {"search_backlog": search, "sums_backlog": await taskctx_sql.schema.sums_backlog(url, schema=schema)}


def _readiness(name: str, things: str, backlog: int | None) -> list[str]:
    """Return how far something that is brought up to date later is; nothing if it is not there."""
    if backlog is None:
        return []
    return [f"{name}: {backlog:,} {things} behind" if backlog else f"{name}: ready"]
