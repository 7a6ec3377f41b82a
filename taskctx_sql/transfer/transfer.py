"""Moving contexts: the original's JSON folders into a database, back into its format, and between databases.

Nothing that is there is ever overwritten, each can be interrupted and done again, and each compares at the end.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from taskctx_sql import json_files
from taskctx_sql.concurrency import on_thread
from taskctx_sql.errors import (
    ContextNotFoundError,
    CorruptRecordError,
    InvalidDatabaseUrlError,
    InvalidIdError,
    MissingHistoriesError,
    MissingUserError,
    RevisionNotFoundError,
    StaleContextError,
)
from taskctx_sql.json_files import Batches, first_difference, read_history, recovery, write_history
from taskctx_sql.locations import (
    is_json_address,
    json_address,
    json_folder,
    make_folder,
    missing_file,
    plain_folder,
    shown_path,
)
from taskctx_sql.model import (
    ContextKey,
    Damage,
    Imported,
    ImportedChat,
    Moved,
    TransferOutcome,
    TransferProgress,
    no_progress,
)
from taskctx_sql.opening import open_store
from taskctx_sql.stores import Store

if TYPE_CHECKING:
    from taskctx_sql.sql.store import SqlStore


# How often a file that somebody writes to meanwhile is read again.
ATTEMPTS: Final = 10


async def import_folder(
    folder: str | Path,
    store: SqlStore,
    *,
    user_id: str,
    chat_id: str | None = None,
    verify: bool = True,
    progress: TransferProgress = no_progress,
) -> Imported:
    """Bring the original's history files into a database; the folder is not changed.

    An entry that is there already is not written again. From a damaged file every whole entry comes, and the rest is
    told by its bytes. Files that were set aside as unreadable come before the one that took their place.

    Args:
        folder: Where the files are.
        store: An open database.
        user_id: Whose they are: the files do not know.
        chat_id: Which chat's; all if not given.
        verify: Read the files again afterwards, and see that each of their entries is in the database.
        progress: Told of each step, in bytes.

    Returns:
        What came of each chat, in the order of the files' last changes, which is that of their contexts' making.

    Raises:
        MissingHistoriesError: There is no such folder, or no history file in it.
        InvalidIdError: The user_id cannot be one.
        StoreError: The database failed; what came before is there.
    """
    from taskctx_sql.sql.transfer import Files, import_chat, verify_chat

    ContextKey(user_id, "")
    started = time.monotonic()
    folder = plain_folder(folder)
    chats, ignored = history_files(folder, chat_id)
    found = [Files(paths, ImportedChat(chat, [path.name for path in paths])) for chat, paths in chats.items()]
    total = sum(files.size for files in found) * (2 if verify else 1)
    imported = Imported(json_address(folder), store.database_url, [files.chat for files in found], ignored)
    tell = _adding_up(progress, total)
    for files in found:
        try:
            key = ContextKey(user_id, files.chat.chat_id)
            for _ in range(ATTEMPTS):
                before = files.state()
                await import_chat(store, key, files, tell)
                if verify:
                    files.chat.verified = await verify_chat(store, key, files, tell)
                if files.chat.ok or files.state() == before:
                    break
                # Somebody wrote to the files meanwhile: what differs may only be newer, or half written then.
        except (OSError, InvalidIdError, StaleContextError) as error:
            files.chat.error = " ".join(str(error).split())
    imported.seconds = time.monotonic() - started
    return imported


async def export(
    store: SqlStore,
    folder: str | Path,
    *,
    user_id: str | None = None,
    chat_id: str | None = None,
    replace: bool = False,
    verify: bool = True,
    progress: TransferProgress = no_progress,
) -> Moved:
    """Write contexts of a database as the original's history files, and compare them entry by entry.

    The original knows no users. So one user's files go into the folder itself, and without ``user_id`` each user's
    go into a folder of its own in it. A file that is there already is replaced only if the new one goes on after it.

    Args:
        store: An open database; it is only read.
        folder: Where the files go; made if it is missing.
        user_id: Whose contexts; all users' if not given.
        chat_id: Which of that user's; all if not given.
        replace: Replace files that have something else, too.
        verify: Read the files afterwards, and compare each entry.
        progress: Told of each step, in updates.

    Raises:
        StoreError: The database failed; files that were written are whole.
        OSError: The folder cannot be made.
    """
    from taskctx_sql.sql.transfer import compare_context, contexts, write_context

    started = time.monotonic()
    folder = plain_folder(folder)
    moved = Moved(store.database_url, json_address(folder), verified=0 if verify else None)
    total = 0
    async for context in contexts(store, user_id, chat_id):
        total += context.next_seq - 1
    tell = _adding_up(progress, total * (2 if verify else 1))
    async for context in contexts(store, user_id, chat_id):
        moved.contexts += 1
        try:
            into = folder if user_id is not None else folder / json_files.folder_name(context.key.user_id)
            await on_thread(make_folder, into)
            path = into / json_files.file_name(context.key)
            written = await write_context(store, context, path, partial(_told, tell=tell, path=path), replace=replace)
        except (OSError, InvalidIdError, CorruptRecordError, ContextNotFoundError, RevisionNotFoundError) as error:
            _refuse(moved, context.key, " ".join(str(error).split()))
            continue
        if written.outcome == "refused":
            _refuse(moved, context.key, f"{path} has something else: move it away, or ask for it to be replaced")
            continue
        moved.outcomes[written.outcome] += 1
        moved.updates += written.updates
        moved.added += written.updates if written.outcome != "unchanged" else 0
        for what, number in written.left_behind.items():
            moved.left_behind[what] = moved.left_behind.get(what, 0) + number
        if moved.verified is not None:
            same, difference = await compare_context(store, written.context, path, partial(_told, tell=tell, path=path))
            moved.verified += same
            if difference is not None:
                moved.tell(context.key, difference)
    moved.seconds = time.monotonic() - started
    return moved


async def copy(
    source: str,
    target: str,
    *,
    user_id: str | None = None,
    chat_id: str | None = None,
    verify: bool = True,
    progress: TransferProgress = no_progress,
) -> Moved | Imported:
    """Copy contexts between any two stores, and compare both sides afterwards, entry by entry.

    Between databases rows go as they are, removed ones, runs and revisions too. A context that is in the target
    already is brought up to date if it only fell behind, and refused if it has changed there.

    Args:
        source: Where from: an address that `open_store` takes.
        target: Where to.
        user_id: Whose contexts. Needed where the source is a folder of JSON files and the target is none.
        chat_id: Which of that user's; all if not given.
        verify: Compare both sides afterwards.
        progress: Told of each step.

    Raises:
        InvalidDatabaseUrlError: An address names no store, or both name the same one.
        MissingUserError: The files' user is needed.
        MissingHistoriesError: The folder of the source has no history files.
        StoreError: A store failed; what came before is there, and copying again goes on.
    """
    started = time.monotonic()
    for address in (source, target):
        if not isinstance(address, str):
            raise InvalidDatabaseUrlError("***", f"it is a {type(address).__name__}")
    if source == target:
        raise InvalidDatabaseUrlError(_masked(source), "it is both ends of the copy")
    if (missing := missing_file(source)) is not None:
        raise MissingHistoriesError(shown_path(missing), "there is no such file")
    if is_json_address(source):
        if is_json_address(target):
            return await _copy_files(json_folder(source), json_folder(target), chat_id, verify, progress)
        if user_id is None:
            raise MissingUserError(_masked(source))
        # Before a database is made for nothing.
        history_files(json_folder(source), chat_id)
        async with open_store(target) as store:
            return await import_folder(
                json_folder(source),
                database_of(store),
                user_id=user_id,
                chat_id=chat_id,
                verify=verify,
                progress=progress,
            )
    async with open_store(source) as store:
        if is_json_address(target):
            return await export(
                database_of(store),
                json_folder(target),
                user_id=user_id,
                chat_id=chat_id,
                verify=verify,
                progress=progress,
            )
        async with open_store(target) as other:
            from taskctx_sql.sql.transfer import copy_database

            moved = await copy_database(
                database_of(store),
                database_of(other),
                user_id=user_id,
                chat_id=chat_id,
                verify=verify,
                progress=progress,
            )
    moved.seconds = time.monotonic() - started
    return moved


async def _copy_files(
    source: Path, target: Path, chat_id: str | None, verify: bool, progress: TransferProgress
) -> Moved:
    started = time.monotonic()
    chats, _ = history_files(source, chat_id)
    moved = Moved(json_address(source), json_address(target), verified=0 if verify else None)
    await on_thread(make_folder, target)
    paths = [path for paths in chats.values() for path in paths]
    for at, path in enumerate(paths):
        progress(f"copying {path.name}", at, len(paths))
        moved.contexts += 1
        try:
            outcome: TransferOutcome = "unchanged"
            for _ in range(ATTEMPTS):
                before = json_files.state_of(path)
                copied = await _copy_file(path, target / path.name, verify)
                outcome = copied.outcome if outcome == "unchanged" or copied.outcome == "refused" else outcome
                if not copied.problems or json_files.state_of(path) == before:
                    break
                # Somebody wrote to it meanwhile: what differs may only be newer, or half written then.
        except OSError as error:
            # No file at all, or one that may not be read: its neighbors come all the same.
            moved.outcomes["refused"] += 1
            moved.tell(path.name, str(error))
            continue
        moved.outcomes[outcome] += 1
        moved.updates += copied.updates
        moved.added += copied.updates if outcome in ("added", "extended") else 0
        if moved.verified is not None:
            moved.verified += copied.verified
        for problem in copied.problems:
            moved.tell(path.name, problem)
    moved.seconds = time.monotonic() - started
    return moved


class _Copied(NamedTuple):
    """What became of a file, how many updates it has and how many are the same, and what is wrong with it."""

    outcome: TransferOutcome
    updates: int
    verified: int
    problems: list[str]


async def _copy_file(path: Path, target: Path, verify: bool) -> _Copied:
    damage = await on_thread(lambda: [part for part in recovery.read_entries(path) if isinstance(part, Damage)])
    problems = [str(part) for part in damage]
    outcome, count = await write_history(target, read_history(path), replace=False)
    same = 0
    if outcome == "refused":
        problems.append(f"{target} has something else: move it away")
    elif verify:
        same, difference = await first_difference(target, read_history(path))
        problems += [] if difference is None else [difference]
    return _Copied(outcome, count, same, problems)


def _masked(address: str) -> str:
    from taskctx_sql.sql.engines import mask

    return mask(address)


def database_of(store: Store) -> SqlStore:
    """Return an open store of a database as what it is.

    Raises:
        InvalidDatabaseUrlError: It is a folder of files.
    """
    from taskctx_sql.sql.store import SqlStore

    if not isinstance(store, SqlStore):
        raise InvalidDatabaseUrlError(store.database_url, "it is no database")
    return store


def _refuse(moved: Moved, key: ContextKey, reason: str) -> None:
    moved.outcomes["refused"] += 1
    moved.tell(key, reason)


async def _told(batches: Batches, *, tell: TransferProgress, path: Path) -> Batches:
    async for batch in batches:
        yield batch
        tell(path.name, len(batch), None)


def history_files(folder: Path, chat_id: str | None = None) -> tuple[dict[str, list[Path]], list[str]]:
    """Return each chat's files, the oldest first, and the names of those that are none.

    Raises:
        MissingHistoriesError: There is no such folder, or no history file in it.
    """
    if not folder.is_dir():
        raise MissingHistoriesError(str(folder), "there is no such folder")
    chats: dict[str, list[tuple[int, Path]]] = {}
    ignored = []
    for path in sorted(folder.iterdir()):
        if json_files.is_folder(path) or path.name.startswith(".taskctx-"):
            continue
        name, number = json_files.set_aside_from(path.name) or (path.name, 10_000)
        chat = json_files.chat_id(name)
        if chat_id is not None and chat != chat_id:
            continue
        if chat is None:
            ignored.append(path.name)
        else:
            chats.setdefault(chat, []).append((number, path))
    if not chats:
        wanted = "context_history_*.json" if chat_id is None else f"file of chat {chat_id!r}"
        raise MissingHistoriesError(str(folder), f"it has no {wanted}")
    ordered = {chat: [path for _, path in sorted(numbered)] for chat, numbered in chats.items()}
    return dict(sorted(ordered.items(), key=lambda item: _changed_at(item[1][-1]))), ignored


def _changed_at(path: Path) -> float:
    status = json_files.status_of(path)
    return 0 if status is None else status.st_mtime


def _adding_up(progress: TransferProgress, total: int) -> TransferProgress:
    done = 0

    def tell(doing: str, more: int, _: int | None) -> None:
        nonlocal done
        done += more
        progress(doing, done, total)

    return tell
