"""The commands about the schema of a database: ``upgrade`` and ``current``."""

from __future__ import annotations

import sys

import click

import taskctx_sql
from taskctx_sql.cli import output
from taskctx_sql.cli.commands import command
from taskctx_sql.cli.options import asynchronous, database_option, format_option, schema_option
from taskctx_sql.cli.stores import needed_database, reached


@command()
@database_option
@schema_option
@click.option("--revision", default="head", show_default=True, help="The revision to upgrade to.")
@click.option(
    "--row-level-security/--no-row-level-security",
    default=None,
    help="On Postgres, whether accounts other than the owner see one user at a time.",
)
@click.option("--sql", is_flag=True, help="Print the SQL of the upgrade instead, and change nothing.")
@format_option
@asynchronous
async def upgrade(
    database_url: str | None,
    schema: str | None,
    revision: str,
    row_level_security: bool | None,
    sql: bool,
    form: str,
) -> None:
    """Set up a database, or bring it up to this version. Its data is kept.

    \b
    taskctx upgrade -d tasks.db
    taskctx upgrade -d postgresql://me@host/db
    taskctx upgrade --row-level-security
    taskctx upgrade --sql > upgrade.sql
    """
    url = await reached(needed_database(database_url, "an upgrade"), may_be_missing=True)
    if sql:
        if revision != "head" or form == "json":
            raise click.UsageError("--sql prints the upgrade to the newest revision, without --revision and --json")
        statements = await taskctx_sql.schema.upgrade_sql(url, schema=schema, row_level_security=row_level_security)
        # As it is, for another program.
        click.echo(statements.rstrip() or f"-- The schema is already at {await taskctx_sql.schema.head()}.")
        return
    before = await taskctx_sql.schema.current(url, schema=schema)
    await taskctx_sql.schema.upgrade(url, revision, schema=schema, row_level_security=row_level_security)
    after = await taskctx_sql.schema.current(url, schema=schema)
    is_on = await taskctx_sql.schema.row_level_security(url, schema=schema)
    if form == "json":
        head = await taskctx_sql.schema.head()
        output.print_json({"before": before, "after": after, "head": head, "row_level_security": is_on})
        return
    if before == after:
        output.say(f"The schema is already at {after}.")
    else:
        output.say(f"The schema went from {before or 'nothing'} to {after}.")
    if is_on or row_level_security is not None:
        output.say(f"Row-level security is {'on' if is_on else 'off'}.")


@command()
@database_option
@schema_option
@format_option
@asynchronous
async def current(database_url: str | None, schema: str | None, form: str) -> None:
    """Print the revision of a database's schema.

    Also the one that this version needs, and whether row-level security is on. Exit code 1: they differ.

    \b
    taskctx current -d tasks.db
    """
    url = await reached(needed_database(database_url, "a schema"), may_be_missing=True)
    revision, head = await taskctx_sql.schema.current(url, schema=schema), await taskctx_sql.schema.head()
    is_on = await taskctx_sql.schema.row_level_security(url, schema=schema)
    if form == "json":
        output.print_json({"current": revision, "head": head, "row_level_security": is_on})
    else:
        security = ", row-level security is on" if is_on else ""
        output.print_line(f"{revision or 'nothing'} (this version needs {head}){security}")
    if revision != head:
        sys.exit(1)
