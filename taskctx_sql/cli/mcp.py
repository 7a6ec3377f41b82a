"""The command ``mcp``."""

from __future__ import annotations

import click

from taskctx_sql.cli import options
from taskctx_sql.cli.commands import command
from taskctx_sql.cli.stores import needed_database, opened_store


@command()
@options.database_option
@options.schema_option
@click.option("--user", "user_id", metavar="ID", help="Show this user's tasks only.")
@options.asynchronous
async def mcp(database_url: str | None, schema: str | None, user_id: str | None) -> None:
    """Serve the record to an agent, read-only.

    It is a server for the Model Context Protocol. The agent starts this command, and speaks to it over its input and
    output. The tools are search, list, show, cost and diff.

    \b
    taskctx mcp -d tasks.db
    taskctx mcp -d postgresql://me@host/db --user u1
    """
    from taskctx_sql.mcp import record_server

    async with opened_store(needed_database(database_url, "an agent's look at it"), schema) as store:
        await record_server(store, user_id=user_id).run_stdio_async()
