"""The commands that transfer contexts: ``import``, ``export`` and ``copy``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Final, Literal

import click

from taskctx_sql import transfer
from taskctx_sql.cli import output, terminal
from taskctx_sql.cli.commands import command
from taskctx_sql.cli.options import (
    OptionDecorator,
    asynchronous,
    database_option,
    format_option,
    schema_option,
    since_option,
    until_option,
)
from taskctx_sql.cli.progress import transfer_progress
from taskctx_sql.cli.row_files import export_rows
from taskctx_sql.cli.stores import needed_database, reached, refuse_store_option
from taskctx_sql.errors import MissingPackageError
from taskctx_sql.json_files import chat_files
from taskctx_sql.locations import command_line_address, is_json_address
from taskctx_sql.model import Imported, Transferred
from taskctx_sql.model.report_filters import Filters, Moment
from taskctx_sql.opening import open_store
from taskctx_sql.plain_text import counted

_FOLDER: Final = click.Path(path_type=Path)
# What a folder of Claude Code's transcripts has: a file for each session, in a folder for each project.
_TRANSCRIPTS: Final = "*/*.jsonl"

user_option: OptionDecorator = click.option("--user", metavar="ID", help="Only this user's contexts.")
chat_option: OptionDecorator = click.option("--chat", metavar="ID", help="Only this chat.")
verify_option: OptionDecorator = click.option(
    "--verify/--no-verify", default=True, show_default=True, help="Compare both sides afterwards, entry by entry."
)


@command("import")
@click.argument("source", metavar="SOURCE")
@database_option
@click.option("--user", metavar="ID", help="Whose contexts they are: files do not say. Of tables, only this user's.")
@chat_option
@schema_option
@verify_option
@format_option
@asynchronous
async def import_command(
    source: str,
    database_url: str | None,
    user: str | None,
    chat: str | None,
    schema: str | None,
    verify: bool,
    form: str,
) -> None:
    """Import JSON files, Claude Code's transcripts, or aiecs' tables.

    SOURCE is a folder of files, a folder like ~/.claude/projects, or the URL of the Postgres in which aiecs keeps
    context_task_contexts and task_history. It is not changed. Entries that the database already has are not written
    again, so an import can be interrupted and repeated. Every whole entry of a damaged file is imported; the damaged
    parts are listed by file and byte or line. Exit code 1: not everything was imported.

    \b
    taskctx import ./tasks --user u1 -d tasks.db
    taskctx import ~/.claude/projects --user u1 -d tasks.db
    taskctx import postgresql://me@host/aiecs -d tasks.db
    """
    url = needed_database(database_url, "an import")
    of_aiecs = source.startswith(("postgresql:", "postgres:", "postgresql+"))
    if not of_aiecs:
        if user is None:
            raise click.UsageError("--user is needed: files do not say whose they are")
        if _are_transcripts(source):
            _print(await _import_transcripts(source, url, schema, user, chat, verify), form)
            return
        # Check the folder before a database is created for nothing.
        chat_files(Path(source), chat)
    await reached(url, may_be_missing=True)
    async with open_store(url, schema=schema) as store:
        with transfer_progress("rows" if of_aiecs else "bytes") as progress:
            if user is None or of_aiecs:
                imported = await transfer.import_aiecs(
                    source, store, user_id=user, chat_id=chat, verify=verify, progress=progress
                )
            else:
                imported = await transfer.import_folder(
                    source, store, user_id=user, chat_id=chat, verify=verify, progress=progress
                )
    _print(imported, form)


def _are_transcripts(folder: str) -> bool:
    return any(Path(folder).expanduser().glob(_TRANSCRIPTS))


async def _import_transcripts(
    source: str, url: str, schema: str | None, user: str, chat: str | None, verify: bool
) -> Transferred:
    """Import transcripts by the integration of their framework, which the package itself does not import."""
    try:
        integration = importlib.import_module("taskctx_sql.integrations.claude_agent_sdk")
    except ModuleNotFoundError as error:
        raise MissingPackageError("claude_agent_sdk", "claude-agent-sdk") from error
    await reached(url, may_be_missing=True)
    async with open_store(url, schema=schema) as store:
        with transfer_progress("bytes") as progress:
            imported: Transferred = await integration.import_transcripts(
                source, store, user_id=user, chat_id=chat, verify=verify, progress=progress
            )
    return imported


@command()
@click.argument("folder", type=_FOLDER)
@database_option
@user_option
@chat_option
@schema_option
@click.option("--replace", is_flag=True, help="Also replace files that differ.")
@verify_option
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["history", *transfer.FORMATS]),
    default="history",
    show_default=True,
    help="Histories as the original kept them, or the rows of reports.",
)
@click.option(
    "--report",
    "reports",
    type=click.Choice(transfer.EXPORTED),
    metavar="NAME",
    multiple=True,
    help="Of rows: only this report, such as tasks; may be given several times.",
)
@since_option
@until_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@asynchronous
async def export(
    folder: Path,
    database_url: str | None,
    user: str | None,
    chat: str | None,
    schema: str | None,
    replace: bool,
    verify: bool,
    file_format: Literal["history", "parquet", "jsonl", "csv"],
    reports: tuple[str, ...],
    since: Moment | None,
    until: Moment | None,
    as_json: bool,
) -> None:
    """Write a database as files: histories, or the rows of reports.

    Histories are the JSON files of the original. With --user they go into FOLDER itself, and without it each user's
    files go into a subfolder, because the files have no users. What their format cannot hold is counted.

    With --format parquet, jsonl or csv, FOLDER gets a file for each report, such as tasks.parquet, with all of its
    columns and rows. Exit code 1: not everything was written.

    \b
    taskctx export ./tasks --user u1 -d tasks.db
    taskctx export ./rows --format csv -d tasks.db
    """
    form = "json" if as_json else "text"
    url = needed_database(database_url, "an export")
    if file_format != "history":
        filters: Filters = {"user_id": user, "chat_id": chat, "since": since, "until": until}
        await export_rows(url, schema, folder, file_format, reports, form, replace=replace, filters=filters)
        return
    if reports or since is not None or until is not None:
        raise click.UsageError("--report, --since and --until are for rows: give --format parquet, jsonl or csv")
    _require_user(user, chat)
    await reached(url)
    async with open_store(url, schema=schema) as store:
        with transfer_progress("updates") as progress:
            result = await transfer.export(
                store, folder, user_id=user, chat_id=chat, replace=replace, verify=verify, progress=progress
            )
    _print(result, form)


@command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@user_option
@chat_option
@schema_option
@click.option("--to-schema", metavar="NAME", help="On Postgres, the schema of TO; that of FROM by default.")
@verify_option
@format_option
@asynchronous
async def copy(
    source: str,
    target: str,
    user: str | None,
    chat: str | None,
    schema: str | None,
    to_schema: str | None,
    verify: bool,
    form: str,
) -> None:
    """Copy contexts from one store to another.

    FROM and TO are paths or URLs; no other store is named.

    Between databases everything is copied, including removed updates, runs and revisions. A context that fell behind
    in TO is brought up to date; one that has changed there is left alone, and listed. So a copy can be interrupted and
    repeated. Exit code 1: not everything was copied, or both sides differ.

    \b
    taskctx copy tasks.db postgresql://me@host/db
    taskctx copy ./tasks/ tasks.db --user u1
    """
    refuse_store_option()
    source, target = command_line_address(source), command_line_address(target)
    if not is_json_address(source):
        _require_user(user, chat)
    # The library refuses to copy a store to itself, and names a missing one.
    for url in (source, target) if source != target else ():
        await reached(url, may_be_missing=True)
    with transfer_progress("") as progress:
        result = await transfer.copy(
            source,
            target,
            user_id=user,
            chat_id=chat,
            source_schema=schema if _has_schemas(source) else None,
            target_schema=(to_schema or schema) if _has_schemas(target) else None,
            verify=verify,
            progress=progress,
        )
    _print(result, form)


def _has_schemas(address: str) -> bool:
    return address.startswith("postgres")


def _require_user(user: str | None, chat: str | None) -> None:
    if chat is not None and user is None:
        raise click.UsageError("--chat needs --user: several users may have a chat of that name")


def _print(result: Imported | Transferred, form: str) -> None:
    if form == "json":
        output.print_json(result.as_dict())
    elif terminal.is_quiet() and result.ok:
        pass
    elif isinstance(result, Imported):
        _print_imported(result)
    else:
        _print_transferred(result)
    if not result.ok:
        sys.exit(1)


def _print_imported(result: Imported) -> None:
    output.print_parts(
        output.Bold(f"{counted(result.entries, 'entry')} of {counted(len(result.chats), 'chat')}"),
        f", {result.added:,} of them new, from {result.source} to {result.target} in {result.seconds:.1f} s",
    )
    checked = [chat for chat in result.chats if chat.verified is not None]
    if checked:
        good = sum(chat.entries for chat in checked if chat.verified)
        output.print_parts(f"Verified in the database: {counted(good, 'entry')}.")
    for chat in result.chats:
        for name, damage in chat.damage:
            output.print_parts(f"not imported: {name}, {damage!s}")
        if chat.damage_count > len(chat.damage):
            more = counted(chat.damage_count - len(chat.damage), "part")
            output.print_parts(f"not imported: {more} more of the same chat")
        if chat.error is not None:
            output.print_parts(f"not imported: {', '.join(chat.files)}: {chat.error}")
        if chat.verified is False:
            output.print_parts(f"differs from the database: {', '.join(chat.files)}: import it again")
    if result.ignored:
        others = " and others" if len(result.ignored) > 5 else ""
        output.print_parts(f"Not history files: {', '.join(result.ignored[:5])}{others}")
    complete = sum(chat.ok for chat in result.chats)
    if complete < len(result.chats):
        rest = len(result.chats) - complete
        output.print_parts(f"Imported completely: {counted(complete, 'chat')}; not completely: {rest:,}.")


def _print_transferred(result: Transferred) -> None:
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in result.outcomes.items() if count) or "none"
    output.print_parts(
        output.Bold(counted(result.contexts, "context")),
        f" ({outcomes}), {counted(result.added, 'update')} written "
        f"from {result.source} to {result.target} in {result.seconds:.1f} s",
    )
    if result.verified is not None:
        output.print_parts(f"Compared afterwards, and equal: {counted(result.verified, 'update')}.")
    for what, count in result.left_behind.items():
        output.print_parts(f"left behind, {what}: {count:,}")
    for problem in result.problems:
        output.print_parts(f"problem: {problem.where}: {problem.reason}")
    if result.problem_count > len(result.problems):
        output.print_parts(f"problem: {result.problem_count - len(result.problems):,} more")
