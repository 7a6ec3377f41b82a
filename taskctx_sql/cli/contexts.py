"""The commands about one context: ``show``, ``label`` and ``diagnose``."""

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
from taskctx_sql.cli.options import (
    Opened,
    context_command,
    database_option,
    format_option,
    label_option,
    rows_format_option,
    schema_option,
)
from taskctx_sql.cli.stores import reached, store_url
from taskctx_sql.model import ContextKey
from taskctx_sql.model.report_rows import RunReport, worst_outcome
from taskctx_sql.plain_text import counted
from taskctx_sql.stores import Feature, Store
from taskctx_sql.task import TaskContext


@context_command
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    default=20,
    show_default=True,
    help="How many of the newest updates to print, and how many state entries.",
)
@rows_format_option
async def show(key: ContextKey, opened: Opened, limit: int, form: str) -> None:
    """Print a context: outcome, labels, state, newest updates and files.

    The outcome is the worst of its runs; --format csv prints the updates only.

    \b
    taskctx show u1 c1 -d tasks.db
    """
    async with opened as store:
        context = TaskContext({"user_id": key.user_id, "chat_id": key.chat_id}, store=store, history_limit=limit)
        await context.load()
        runs = await store.reports.context_runs(key) if Feature.RUNS in store.features else []
        has_state = Feature.STATE in store.features
        labels = await store.state(key, kind="label") if has_state else []
        # One more shows whether there are others.
        state = await store.state(key, limit=limit + 1) if has_state else []
    if context.is_new:
        raise _not_there(key, store)
    if form == "json":
        values = output.stored_values(context.to_dict())
        about = {"revision": context.revision, "complete": context.history_complete, "outcome": worst_outcome(runs)}
        named = {
            "labels": {entry.name: entry.value for entry in labels},
            "state": {entry.name: output.stored_value(entry.value) for entry in state[:limit]},
            "state_complete": len(state) <= limit,
        }
        output.print_json(values | about | named | {"runs": runs})
    elif form == "csv":
        output.print_updates_csv(context.context_history)
    else:
        output.print_context(context, _outcome(runs), labels, state[:limit], has_more_state=len(state) > limit)


@context_command
@click.option("--title", metavar="TEXT", help="Set the title.")
@click.option("--parent", metavar="CHAT", help="Set the chat of the task that this one belongs to.")
@label_option("Set a label; may be given several times.")
@click.option("--remove", "removed", metavar="NAME", multiple=True, help="Remove a label; may be given several times.")
@format_option
async def label(
    key: ContextKey,
    opened: Opened,
    title: str | None,
    parent: str | None,
    labels: dict[str, str] | None,
    removed: tuple[str, ...],
    form: str,
) -> None:
    """Set or remove labels of a context.

    "title" and "parent" are labels, too. `taskctx list` finds contexts by them.

    \b
    taskctx label u1 c1 --title "Invoices" --label team=a
    taskctx label u1 c1 --remove team
    """
    changed: dict[str, str | None] = {**(labels or {}), **dict.fromkeys(removed)}
    given = {"title": title, "parent": parent}
    if twice := sorted(({*(labels or ())} & {*removed}) | {name for name in changed if given.get(name) is not None}):
        raise click.UsageError(f"the label {twice[0]!r} is given twice: set it once, or remove it")
    if not changed and title is None and parent is None:
        raise click.UsageError("give --title, --parent, --label or --remove")
    async with opened as store:
        if not (await store.load(key, history_limit=0)).revision:
            raise _not_there(key, store)
        revision = await store.label(key, title=title, parent=parent, labels=changed)
        entries = await store.state(key, kind="label")
    has = {entry.name: entry.value for entry in entries}
    text = ", ".join(f"{name}={value}" for name, value in has.items()) or "no labels"
    output.print_result({"labels": has, "revision": revision}, f"The context has {text}.", form)


def _not_there(key: ContextKey, store: Store) -> click.ClickException:
    return click.ClickException(
        f"there is no context of user {key.user_id!r} and chat {key.chat_id!r} in {store.database_url}: "
        f"{failures.hint('list')} shows which there are"
    )


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
