"""The commands that move contexts: import, export and copy."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from taskctx_sql import transfer
from taskctx_sql.cli import output
from taskctx_sql.cli.options import asynchronous, json_option, schema_option
from taskctx_sql.errors import InvalidDatabaseUrlError, MissingHistoriesError
from taskctx_sql.json_files import chat_files
from taskctx_sql.locations import hidden, is_json_address, missing_file, shown_path
from taskctx_sql.model import Imported, TransferProgress, Transferred
from taskctx_sql.opening import open_store
from taskctx_sql.plain_text import plain

_FOLDER: Final = click.Path(path_type=Path)

user_option = click.option("--user", metavar="ID", help="Only this user's contexts.")
chat_option = click.option("--chat", metavar="ID", help="Only this chat.")
verify_option = click.option(
    "--verify/--no-verify", default=True, show_default=True, help="Compare both sides afterwards, entry by entry."
)


@click.command("import")
@click.argument("folder", type=_FOLDER)
@click.argument("url")
@click.option("--user", metavar="ID", required=True, help="Whose contexts they are: the files do not say.")
@chat_option
@schema_option
@verify_option
@json_option
@asynchronous
async def import_command(
    folder: Path, url: str, user: str, chat: str | None, schema: str | None, verify: bool, as_json: bool
) -> None:
    """Bring the original's history files in FOLDER into the database at URL.

    The folder is not changed. What is in the database already is not written again, so an import can be interrupted
    and repeated. From a damaged file every whole entry comes; the rest is printed by file and byte. Exit code 1: not
    all of it came.

    \b
    taskctx import ./tasks sqlite:///tasks.db --user u1
    """
    if is_json_address(url):
        raise InvalidDatabaseUrlError(
            hidden(url), "an import goes into a database; for a folder there is `taskctx copy`"
        )
    # Before a database is made for nothing.
    chat_files(folder, chat)
    async with open_store(url, schema=schema) as store:
        with shown_progress("bytes") as progress:
            imported = await transfer.import_folder(
                folder, store, user_id=user, chat_id=chat, verify=verify, progress=progress
            )
    _print(imported, as_json)


@click.command()
@click.argument("url")
@click.argument("folder", type=_FOLDER)
@user_option
@chat_option
@schema_option
@click.option("--replace", is_flag=True, help="Replace files that have something else, too.")
@verify_option
@json_option
@asynchronous
async def export(
    url: str,
    folder: Path,
    user: str | None,
    chat: str | None,
    schema: str | None,
    replace: bool,
    verify: bool,
    as_json: bool,
) -> None:
    """Write the contexts of the database at URL to FOLDER, in the original's format.

    With --user the files go into FOLDER itself; without, each user's into a folder of its own in it, as the original
    knows no users. What its format has no place for is counted. Exit code 1: not all of it was written.

    \b
    taskctx export sqlite:///tasks.db ./tasks --user u1
    """
    if is_json_address(url):
        raise InvalidDatabaseUrlError(
            hidden(url), "an export comes from a database; for a folder there is `taskctx copy`"
        )
    see_that_it_is_there(url)
    _see_the_user(user, chat)
    async with open_store(url, schema=schema) as store:
        with shown_progress("updates") as progress:
            result = await transfer.export(
                store,
                folder,
                user_id=user,
                chat_id=chat,
                replace=replace,
                verify=verify,
                progress=progress,
            )
    _print(result, as_json)


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@user_option
@chat_option
@verify_option
@json_option
@asynchronous
async def copy(source: str, target: str, user: str | None, chat: str | None, verify: bool, as_json: bool) -> None:
    """Copy contexts from the store at FROM to the one at TO.

    Between databases all goes along: reresult updates, runs and revisions too. A context that fell behind in TO is
    brought up to date; one that has changed there is left alone, and printed. So a copy can be interrupted and
    repeated. Exit code 1: not all of it came, or something is not the same.

    \b
    taskctx copy sqlite:///tasks.db postgresql://me@host/db
    taskctx copy json:///tasks sqlite:///tasks.db --user u1
    """
    if not is_json_address(source):
        _see_the_user(user, chat)
    with shown_progress("") as progress:
        result = await transfer.copy(source, target, user_id=user, chat_id=chat, verify=verify, progress=progress)
    _print(result, as_json)


COMMANDS: Final = (import_command, export, copy)


def see_that_it_is_there(url: str) -> None:
    """Refuse a SQLite file that is not there: opening would make it.

    Raises:
        MissingHistoriesError: It is not there.
    """
    if (missing := missing_file(url)) is not None:
        raise MissingHistoriesError(shown_path(missing), "there is no such file")


def _see_the_user(user: str | None, chat: str | None) -> None:
    if chat is not None and user is None:
        raise click.UsageError("--chat needs --user: several users may have a chat of that name")


@contextmanager
def shown_progress(unit: str) -> Iterator[TransferProgress]:
    """Show how far it is, at most some times a second; nothing where standard error is no terminal."""
    with output.progress() as bars:
        bar = bars.add_task("Looking", total=None)
        last = 0.0

        def show(doing: str, done: int, total: int | None) -> None:
            nonlocal last
            if time.monotonic() - last > 0.1:
                last = time.monotonic()
                bars.update(bar, completed=done, total=total, description=f"{plain(doing[-50:])} {unit}")

        yield show


def _print(result: Imported | Transferred, as_json: bool) -> None:
    if as_json:
        output.print_json(result.as_dict())
    elif isinstance(result, Imported):
        _print_imported(result)
    else:
        _print_transferred(result)
    if not result.ok:
        sys.exit(1)


def _print_imported(result: Imported) -> None:
    came = sum(1 for chat in result.chats if chat.ok)
    output.line(
        output.Bold(f"{result.entries:,} entries of {len(result.chats):,} chats"),
        f", {result.added:,} of them new, from {result.source} to {result.target} in {result.seconds:.1f} s",
    )
    checked = [chat for chat in result.chats if chat.verified is not None]
    if checked:
        good = sum(chat.entries for chat in checked if chat.verified)
        output.line(f"{good:,} entries were found in the database afterwards.")
    for chat in result.chats:
        for name, damage in chat.damage:
            output.line(f"did not come: {name}, {damage!s}")
        if chat.damage_count > len(chat.damage):
            output.line(f"did not come: {chat.damage_count - len(chat.damage):,} more parts of the same chat")
        if chat.error is not None:
            output.line(f"did not come: {', '.join(chat.files)}: {chat.error}")
        if chat.verified is False:
            output.line(f"not the same: {', '.join(chat.files)}: import it again")
    if result.ignored:
        output.line(
            f"No history files: {', '.join(result.ignored[:5])}{' and others' if len(result.ignored) > 5 else ''}"
        )
    if came < len(result.chats):
        output.line(f"{came:,} chats came whole, {len(result.chats) - came:,} did not.")


def _print_transferred(result: Transferred) -> None:
    told = ", ".join(f"{count:,} {outcome}" for outcome, count in result.outcomes.items() if count) or "none"
    output.line(
        output.Bold(f"{result.contexts:,} contexts"),
        f" ({told}), {result.added:,} updates written "
        f"from {result.source} to {result.target} in {result.seconds:.1f} s",
    )
    if result.verified is not None:
        output.line(f"{result.verified:,} updates were compared afterwards, and are the same.")
    for what, count in result.left_behind.items():
        output.line(f"left behind: {count:,} {what}")
    for problem in result.problems:
        output.line(f"problem: {problem.where}: {problem.reason}")
    if result.problem_count > len(result.problems):
        output.line(f"problem: {result.problem_count - len(result.problems):,} more")
