"""The command ``taskctx``: the demo, the schema, a context's contents, the health checks; more in `cli_reports`."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any, Final

import click

import taskctx_sql
from taskctx_sql import health, settings
from taskctx_sql.cli import demo as demo_task
from taskctx_sql.cli import history, maintenance, output, reports, transfer
from taskctx_sql.cli.options import asynchronous, database_option, json_option, opened_store, schema_option
from taskctx_sql.errors import TaskContextError
from taskctx_sql.locations import file_address, make_folder, plain_folder, without_secrets
from taskctx_sql.model import ContextKey
from taskctx_sql.opening import open_store
from taskctx_sql.plain_text import plain
from taskctx_sql.stores import Feature
from taskctx_sql.task import TaskContext

DEMO_FOLDER: Final = Path("taskctx-demo")


class _Group(click.Group):
    """Errors of the library on one line, with the remedy; the traceback only if asked for."""

    def main(self, *args: Any, **more: Any) -> Any:
        output.take_any_text()
        return super().main(*args, **more)

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        try:
            return super().make_context(*args, **more)
        except click.exceptions.NoArgsIsHelpError:
            raise
        except click.UsageError as error:
            raise click.UsageError(_shown(error.format_message()), error.ctx) from error
        except BrokenPipeError:
            raise
        except OSError as error:
            # The help itself could not be written.
            raise click.ClickException(_shown(str(error))) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise click.UsageError(_shown(error.format_message()), error.ctx) from error
        except click.ClickException as error:
            raise click.ClickException(_shown(error.format_message())) from error
        except (TaskContextError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            if ctx.params.get("traceback"):
                click.echo(_shown(_traceback_of(error)), err=True, nl=False)
                ctx.exit(1)
            raise click.ClickException(_shown(" ".join(str(error).split()))) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="taskctx_sql")
@click.option("--traceback", is_flag=True, help="Show where an error came from.")
def main(**_: bool) -> None:
    """A durable, queryable record of what an AI task did.

    \b
    taskctx demo                              index this project's files, and see what was recorded
    taskctx upgrade postgresql://me@host/db   set up a database, or bring it up to this version
    taskctx list                              print which contexts there are
    taskctx show USER CHAT                    print a context
    taskctx tail USER CHAT                    follow a context as it grows
    taskctx log USER CHAT                     print its revisions; also diff, restore, undo, fork
    taskctx search TEXT                       find a text in what was recorded
    taskctx report NAME                       print what happened, failed, grows and costs
    taskctx diagnose                          find out why something does not load, close or optimize
    taskctx import ./tasks URL --user ME      bring the original's JSON files into a database

    Exit codes: 0 done, 1 failed or something was found, 2 the command's words are off.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(output.PlainFormatter("%(levelname)s %(message)s"))
    logger = logging.getLogger("taskctx_sql")
    logger.setLevel(settings.log_level())
    logger.handlers = [handler]


reports.register(main)


@main.command()
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@database_option
@click.option(
    "--output",
    "target",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEMO_FOLDER,
    show_default=True,
    help="Where the index goes, and the database if no other is named.",
)
@json_option
def demo(folder: Path | None, database_url: str | None, target: Path, as_json: bool) -> None:
    """Index the text files in FOLDER, and print from SQL what was recorded.

    Word counts, headings and frequent terms of each file go into an index. Every read, write and step is kept in a
    context; run it again, and it goes on from there and says what changed. Without FOLDER it takes the project's own
    files.

    \b
    taskctx demo
    taskctx demo ~/notes
    taskctx demo ~/notes --database-url postgresql://me@host/db --json
    """
    folder = (plain_folder(folder) if folder else _project_folder()).resolve()
    make_folder(plain_folder(target))
    url = database_url or file_address("sqlite", target / "demo.db")
    with output.progress() as bars:
        bar = bars.add_task("Indexing", total=None)

        def show(name: str, number: int, total: int) -> None:
            bars.update(bar, completed=number, total=total, description=f"Indexing {plain(name[-40:])}")

        result = asyncio.run(demo_task.index_folder(folder, target / "index.json", url, progress=show))
    report = asyncio.run(_report(url, result))
    if as_json:
        output.print_json({"result": result, **report})
    else:
        output.print_demo(result, report, _program())


@main.command()
@click.argument("user")
@click.argument("chat")
@database_option
@click.option("--limit", type=click.IntRange(min=0), default=20, show_default=True, help="The newest updates shown.")
@json_option
@asynchronous
async def show(user: str, chat: str, database_url: str | None, limit: int, as_json: bool) -> None:
    """Print the context of USER and CHAT: its newest updates, files, models and metadata.

    \b
    taskctx show demo index-0123456789ab --database-url sqlite:///taskctx-demo/demo.db
    """
    async with opened_store(database_url) as store:
        context = TaskContext({"user_id": user, "chat_id": chat}, store=store, history_limit=limit)
        await context.load()
    if context.is_new:
        raise click.ClickException(f"there is no context of user {user!r} and chat {chat!r} in {store.database_url}")
    if as_json:
        found = {name: output.stored(value) for name, value in context.to_dict().items()}
        output.print_json(found | {"revision": context.revision, "complete": context.history_complete})
    else:
        output.print_context(context)


@main.command()
@click.argument("url")
@schema_option
@click.option("--revision", default="head", show_default=True, help="Which revision to go to.")
@click.option(
    "--row-level-security/--no-row-level-security",
    default=None,
    help="On Postgres, show accounts other than the owner one user at a time, or again all.",
)
@json_option
@asynchronous
async def upgrade(url: str, schema: str | None, revision: str, row_level_security: bool | None, as_json: bool) -> None:
    """Set up the database at URL, or bring it up to this version; what is in it stays.

    \b
    taskctx upgrade sqlite:///tasks.db
    taskctx upgrade postgresql://me@host/db --schema tasks
    taskctx upgrade postgresql://me@host/db --row-level-security
    """
    before = await taskctx_sql.schema.current(url, schema=schema)
    await taskctx_sql.schema.upgrade(url, revision, schema=schema, row_level_security=row_level_security)
    after = await taskctx_sql.schema.current(url, schema=schema)
    is_on = await taskctx_sql.schema.row_level_security(url, schema=schema)
    if as_json:
        head = await taskctx_sql.schema.head()
        output.print_json({"before": before, "after": after, "head": head, "row_level_security": is_on})
        return
    if before == after:
        output.say(f"The schema is at {after} already.")
    else:
        output.say(f"The schema went from {before or 'nothing'} to {after}.")
    if is_on or row_level_security is not None:
        output.say(f"Row-level security is {'on' if is_on else 'off'}.")


@main.command()
@click.argument("url")
@schema_option
@json_option
@asynchronous
async def current(url: str, schema: str | None, as_json: bool) -> None:
    """Print the revision that the database at URL is at, the one this version needs, and if row-level security is on.

    \b
    taskctx current sqlite:///tasks.db
    """
    found, head = await taskctx_sql.schema.current(url, schema=schema), await taskctx_sql.schema.head()
    is_on = await taskctx_sql.schema.row_level_security(url, schema=schema)
    if as_json:
        output.print_json({"current": found, "head": head, "row_level_security": is_on})
    else:
        guarded = ", row-level security is on" if is_on else ""
        output.say(f"{found or 'nothing'} (this version needs {head}){guarded}")
    if found != head:
        sys.exit(1)


@main.command()
@click.argument("user", default="test")
@click.argument("chat", default="test")
@database_option
@json_option
def diagnose(user: str, chat: str, database_url: str | None, as_json: bool) -> None:
    """Find out why the context of USER and CHAT does not load, and try closing and optimizing.

    \b
    taskctx diagnose user_456 chat_session_xyz789 --database-url json:///tasks
    """
    found = {
        "loading": health.diagnose_history_loading_issue(database_url, user_id=user, chat_id=chat),
        "closing": health.diagnose_resource_cleanup_issue(),
        "optimizing": health.diagnose_context_optimization_issue(),
    }
    if as_json:
        output.print_json({name: {"ok": found[name].ok, "findings": found[name].findings} for name in found})
    else:
        for name, diagnosis in found.items():
            for finding in diagnosis.findings:
                output.say(f"{finding.level:8} {name}: {finding.message}")
    if not all(found.values()):
        sys.exit(1)


async def _report(url: str, result: demo_task.Result) -> dict[str, Any]:
    """Return what happened, from the reports; a folder of JSON files has none."""
    async with open_store(url) as store:
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


def _project_folder() -> Path:
    """The checkout that this is run in or from, or where there is none, the installed package."""
    package = Path(taskctx_sql.__file__).parent
    for folder in (Path.cwd(), package.parent):
        if (folder / "pyproject.toml").is_file() and (folder / package.name / "cli").is_dir():
            return folder
    return package


def _shown(text: str) -> str:
    """Return an error's text for the terminal: an address may stand where another word belongs."""
    return plain(without_secrets(text), keep="\n")


def _traceback_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _program() -> str:
    """What to type for this command, here."""
    return "taskctx" if shutil.which("taskctx") else sys.argv[0]


for command in (*transfer.COMMANDS, *maintenance.COMMANDS, *history.COMMANDS):
    main.add_command(command)
