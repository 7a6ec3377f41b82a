"""The command ``demo``."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Any

import click

import taskctx_sql
from taskctx_sql.cli import demo_task, output, terminal
from taskctx_sql.cli.commands import command
from taskctx_sql.cli.options import database_option, format_option, schema_option
from taskctx_sql.cli.stores import reached
from taskctx_sql.locations import command_line_address, file_address, make_folder, plain_folder
from taskctx_sql.model import ContextKey
from taskctx_sql.opening import open_store
from taskctx_sql.plain_text import plain
from taskctx_sql.stores import Feature


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
@format_option
def demo(folder: Path | None, database_url: str | None, schema: str | None, target: Path, form: str) -> None:
    """Index a folder's text files, and report what was recorded.

    The index has the word counts, headings and frequent terms of each file. Every read, write and step is recorded in
    a context; a second run continues it, and prints what changed. Without FOLDER the project's own files are indexed,
    and without a store the database is in the folder of --output.

    \b
    taskctx demo
    taskctx demo ~/notes
    taskctx demo ~/notes -d notes.db --json
    """
    folder = (plain_folder(folder) if folder else _project_folder()).resolve()
    make_folder(plain_folder(target))
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
