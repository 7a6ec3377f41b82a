"""Exporting a database's contexts as JSON files."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from taskctx_sql import json_files
from taskctx_sql.concurrency import on_thread
from taskctx_sql.errors import ContextNotFoundError, CorruptRecordError, InvalidIdError, RevisionNotFoundError
from taskctx_sql.json_files import Batches
from taskctx_sql.locations import json_address, make_folder, plain_folder
from taskctx_sql.model import AddProgress, TransferProgress, Transferred, sum_progress
from taskctx_sql.stores import ContextStore


async def export(
    store: ContextStore,
    folder: str | Path,
    *,
    user_id: str | None = None,
    chat_id: str | None = None,
    replace: bool = False,
    verify: bool = True,
    progress: TransferProgress | None = None,
) -> Transferred:
    """Write contexts of a database as JSON files, and compare them entry by entry.

    The files have no users. So with ``user_id`` the files go into the folder itself, and without it each user's
    files go into a subfolder. An existing file is replaced only if the new one continues it.

    Args:
        store: An open database; it is only read.
        folder: Where the files go; created if it is missing.
        user_id: Export only this user's contexts.
        chat_id: Export only this chat of that user.
        replace: Also replace files that differ.
        verify: Read the files afterwards, and compare each entry.
        progress: Called with the file's name, the updates done and their total.

    Raises:
        InvalidDatabaseUrlError: The store is not a database.
        StoreError: The database failed; files that were written are whole.
        OSError: The folder cannot be created.
    """
    from taskctx_sql.sql.store import as_database
    from taskctx_sql.sql.transfer import compare_context, read, write_context

    database = as_database(store)
    started = time.monotonic()
    folder = plain_folder(folder)
    result = Transferred(store.database_url, json_address(folder), verified=0 if verify else None)
    report = sum_progress(progress, await read.count_updates(database, user_id, chat_id) * (2 if verify else 1))
    async for context in read.read_contexts(database, user_id, chat_id):
        result.contexts += 1
        try:
            into = folder if user_id is not None else folder / json_files.folder_name(context.key.user_id)
            await on_thread(make_folder, into)
            path = into / json_files.file_name(context.key)
            counted = partial(_counted, report=report, path=path)
            written = await write_context(database, context, path, counted, replace=replace)
        except (OSError, InvalidIdError, CorruptRecordError, ContextNotFoundError, RevisionNotFoundError) as error:
            result.refuse(context.key, " ".join(str(error).split()))
            continue
        if written.outcome == "refused":
            result.refuse(context.key, f"{path} has something else: move it away, or ask for it to be replaced")
            continue
        result.outcomes[written.outcome] += 1
        result.updates += written.updates
        result.added += written.updates if written.outcome != "unchanged" else 0
        for kind, number in written.left_behind.items():
            result.left_behind[kind] = result.left_behind.get(kind, 0) + number
        if result.verified is not None:
            same, difference = await compare_context(database, written.context, path, counted)
            result.verified += same
            if difference is not None:
                result.add_problem(context.key, difference)
    result.seconds = time.monotonic() - started
    return result


async def _counted(batches: Batches, *, report: AddProgress, path: Path) -> Batches:
    async for batch in batches:
        yield batch
        report(path.name, len(batch))
