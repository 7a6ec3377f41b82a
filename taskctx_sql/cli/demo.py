"""The command ``demo``."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

import taskctx_sql
from taskctx_sql import clock
from taskctx_sql.cli import demo_task, output, terminal
from taskctx_sql.cli.commands import command
from taskctx_sql.cli.demo_many import DAYS, MARK, TASKS, Written, write_many
from taskctx_sql.cli.options import database_option, format_option, schema_option
from taskctx_sql.cli.stores import reached
from taskctx_sql.errors import UnsupportedByStoreError
from taskctx_sql.locations import command_line_address, file_address, make_folder, plain_folder
from taskctx_sql.model import ContextKey
from taskctx_sql.opening import open_store
from taskctx_sql.plain_text import counted, plain
from taskctx_sql.stores import Feature

# What to look at first.
_LOOKS: Final = {
    "What each cost": ("report", "tasks", "--sort", "cost"),
    "Which tool fails": ("report", "tools"),
    "Where it is said": ("search", "customs form"),
}


@command()
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@database_option
@schema_option
@click.option(
    "--output",
    "target",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("taskctx-demo"),
    show_default=True,
    help="The folder for the index, and for the database if no store is named.",
)
@click.option(
    "--many",
    "tasks",
    type=click.IntRange(min=1),
    is_flag=False,
    flag_value=TASKS,
    metavar="[N]",
    help=f"Instead, write N made-up tasks ({TASKS:,} by default) of the last {DAYS} days, to look at.",
)
@format_option
def demo(
    folder: Path | None, database_url: str | None, schema: str | None, target: Path, tasks: int | None, form: str
) -> None:
    """Index a folder's text files, and report what was recorded.

    The index has the word counts, headings and frequent terms of each file. Every read, write and step is recorded in
    a context; a second run continues it, and prints what changed. Without FOLDER the project's own files are indexed,
    and without a store the database is in the folder of --output.

    \b
    taskctx demo
    taskctx demo ~/notes
    taskctx demo ~/notes -d notes.db --json
    taskctx demo --many -d many.db
    """
    if folder is not None and tasks is not None:
        raise click.UsageError("give a folder to index, or --many")
    make_folder(plain_folder(target))
    if tasks is not None:
        url = command_line_address(database_url) if database_url else file_address("sqlite", target / "many.db")
        asyncio.run(_write_many(url, schema, tasks, form))
        return
    folder = (plain_folder(folder) if folder else _project_folder()).resolve()
    url = command_line_address(database_url) if database_url else file_address("sqlite", target / "demo.db")
    with terminal.progress() as bars:
        bar = bars.add_task("Indexing", total=None)

        def update(name: str, number: int, total: int) -> None:
            bars.update(bar, completed=number, total=total, description=f"Indexing {plain(name[-40:])}")

        asyncio.run(reached(url, may_be_missing=True))
        result = asyncio.run(demo_task.index_folder(folder, target / "index.json", url, progress=update, schema=schema))
    report = asyncio.run(_report(url, schema, result))
    if form == "json":
        output.print_json({"result": result, **report})
    else:
        output.print_demo(result, report, _program())


async def _write_many(url: str, schema: str | None, tasks: int, form: str) -> None:
    """Write made-up tasks, and print how to look at them."""
    await reached(url, may_be_missing=True)
    async with open_store(url, schema=schema) as store:
        if Feature.STATE not in store.features:
            raise UnsupportedByStoreError("keep made-up tasks", store.database_url, Feature.STATE.value)
        if await store.contexts(None, limit=1, labels=MARK):
            name = store.database_url
            raise click.ClickException(f"{name} has made-up tasks already: name another database with -d")
        with terminal.progress() as bars:
            bar = bars.add_task("Writing tasks", total=tasks)
            written = await write_many(
                store, tasks, clock.now(), progress=lambda done: bars.update(bar, completed=done)
            )
        _print_written(written, store.database_url, form)


def _print_written(written: Written, address: str, form: str) -> None:
    if form == "json":
        output.print_json({"address": address, **asdict(written)})
        return
    tasks, users = counted(written.tasks, "task"), counted(written.users, "user")
    rows = f"{counted(written.updates, 'update')} in {counted(written.saves, 'save')}"
    output.print_parts(output.Bold(f"{tasks} of {users}"), f" over {written.days} days: {rows}")
    output.print_parts()
    for title, words in _LOOKS.items():
        output.print_parts(f"{title}: {shlex.join([*_program(), *words, '-d', address])}")


async def _report(url: str, schema: str | None, result: demo_task.Result) -> dict[str, Any]:
    """Return what happened, from the reports; a folder of JSON files has none."""
    async with open_store(url, schema=schema) as store:
        if Feature.RUNS not in store.features:
            return {"address": store.database_url}
        key = ContextKey(result.user_id, result.chat_id)
        return {
            "address": store.database_url,
            "timeline": await store.reports.timeline(key, limit=8),
            "updates_by_type": await store.reports.updates_by_type(key),
            "files_by_operation": await store.reports.files_by_operation(key),
            "runs": await store.reports.context_runs(key),
        }


def _program() -> list[str]:
    """Return the words by which this program was called, or its name if that is enough."""
    if shutil.which("taskctx"):
        return ["taskctx"]
    called = Path(sys.argv[0])
    return [sys.executable, "-m", taskctx_sql.__name__] if called.name == "__main__.py" else [str(called)]


def _project_folder() -> Path:
    """Return the checkout that this runs in or from, or else the installed package."""
    package = Path(taskctx_sql.__file__).parent
    for folder in (Path.cwd(), package.parent):
        if (folder / "pyproject.toml").is_file() and (folder / package.name / "cli").is_dir():
            return folder
    return package
