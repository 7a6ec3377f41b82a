"""The commands about one context: ``show`` and ``diagnose``."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import click

from taskctx_sql import health
from taskctx_sql.cli import failures, output
from taskctx_sql.cli.commands import command
from taskctx_sql.cli.options import Opened, context_command, database_option, rows_format_option, schema_option
from taskctx_sql.cli.stores import reached, store_url
from taskctx_sql.model import ContextKey
from taskctx_sql.model.report_rows import RunReport, worst_outcome
from taskctx_sql.plain_text import counted
from taskctx_sql.stores import Feature
from taskctx_sql.task import TaskContext


@context_command
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    default=20,
    show_default=True,
    help="How many of the newest updates to print.",
)
@rows_format_option
async def show(key: ContextKey, opened: Opened, limit: int, form: str) -> None:
    """Print a context: its outcome, newest updates, files and models.

    The outcome is the worst of its runs; --format csv prints the updates only.

    \b
    taskctx show u1 c1 -d tasks.db
    """
    async with opened as store:
        context = TaskContext({"user_id": key.user_id, "chat_id": key.chat_id}, store=store, history_limit=limit)
        await context.load()
        runs = await store.reports.context_runs(key) if Feature.RUNS in store.features else []
    if context.is_new:
        raise click.ClickException(
            f"there is no context of user {key.user_id!r} and chat {key.chat_id!r} in {store.database_url}: "
            f"{failures.hint('list')} shows which there are"
        )
    if form == "json":
        values = output.stored_values(context.to_dict())
        about = {"revision": context.revision, "complete": context.history_complete, "outcome": worst_outcome(runs)}
        output.print_json(values | about | {"runs": runs})
    elif form == "csv":
        output.print_updates_csv(context.context_history)
    else:
        output.print_context(context, _outcome(runs))


def _outcome(runs: Sequence[RunReport]) -> str:
    """Return how the runs ended, and what the newest failure was."""
    if not runs:
        return ""
    counts = Counter(run.outcome for run in runs)
    each = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    text = f"{worst_outcome(runs)} ({counted(len(runs), 'run')}: {each})"
    error = next((run.error for run in reversed(runs) if run.error), None)
    return text if error is None else f"{text}; the last error: {error}"


@command()
@click.argument("user", default="test")
@click.argument("chat", default="test")
@database_option
@schema_option
@rows_format_option
def diagnose(user: str, chat: str, database_url: str | None, schema: str | None, form: str) -> None:
    """Find out why a context does not load.

    Also checks, on data made up in memory, that resources are closed and that optimizing removes updates.

    \b
    taskctx diagnose u1 c1 -d ./tasks/
    """
    url = asyncio.run(reached(store_url(database_url), may_be_missing=True))
    diagnoses = {
        "loading": health.diagnose_history_loading_issue(url, user_id=user, chat_id=chat, schema=schema),
        "closing": health.diagnose_resource_cleanup_issue(),
        "optimizing": health.diagnose_context_optimization_issue(),
    }
    if form == "json":
        output.print_json({name: {"ok": one.ok, "findings": one.findings} for name, one in diagnoses.items()})
    else:
        # The reference's diagnosis of loading calls what it checks the history.
        named = [replace(found, check=name) for name, one in diagnoses.items() for found in one.findings]
        output.print_findings(named, form)
    if not all(diagnoses.values()):
        sys.exit(1)
