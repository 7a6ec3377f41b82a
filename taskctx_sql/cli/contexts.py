"""The commands about one context: ``show`` and ``diagnose``."""

from __future__ import annotations

import sys
from typing import Final

import click

from taskctx_sql import health
from taskctx_sql.cli import output
from taskctx_sql.cli.options import asynchronous, database_option, json_option, opened_store, schema_option, store_url
from taskctx_sql.model import ContextKey
from taskctx_sql.task import TaskContext


@click.command()
@click.argument("user")
@click.argument("chat")
@database_option
@schema_option
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="How many of the newest updates to print.",
)
@json_option
@asynchronous
async def show(user: str, chat: str, database_url: str | None, schema: str | None, limit: int, as_json: bool) -> None:
    """Print the context of USER and CHAT: its newest updates, files, models and metadata.

    \b
    taskctx show demo index-0123456789ab -d taskctx-demo/demo.db
    """
    key = ContextKey(user, chat)
    async with opened_store(database_url, schema) as store:
        context = TaskContext({"user_id": key.user_id, "chat_id": key.chat_id}, store=store, history_limit=limit)
        await context.load()
    if context.is_new:
        raise click.ClickException(f"there is no context of user {user!r} and chat {chat!r} in {store.database_url}")
    if as_json:
        output.print_json(
            output.stored_values(context.to_dict())
            | {"revision": context.revision, "complete": context.history_complete}
        )
    else:
        output.print_context(context)


@click.command()
@click.argument("user", default="test")
@click.argument("chat", default="test")
@database_option
@schema_option
@json_option
def diagnose(user: str, chat: str, database_url: str | None, schema: str | None, as_json: bool) -> None:
    """Find out why the context of USER and CHAT does not load, and check closing and optimizing.

    \b
    taskctx diagnose user_456 chat_session_xyz789 -d json:///tasks
    """
    diagnoses = {
        "loading": health.diagnose_history_loading_issue(
            store_url(database_url), user_id=user, chat_id=chat, schema=schema
        ),
        "closing": health.diagnose_resource_cleanup_issue(),
        "optimizing": health.diagnose_context_optimization_issue(),
    }
    if as_json:
        output.print_json({name: {"ok": one.ok, "findings": one.findings} for name, one in diagnoses.items()})
    else:
        for name, diagnosis in diagnoses.items():
            for finding in diagnosis.findings:
                output.print_line(f"{finding.level:8} {name}: {finding.message}")
    if not all(diagnoses.values()):
        sys.exit(1)


COMMANDS: Final = (show, diagnose)
