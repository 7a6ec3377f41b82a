"""Importing folders of JSON files into a database."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from taskctx_sql.errors import InvalidIdError, StaleContextError
from taskctx_sql.json_files import chat_files
from taskctx_sql.locations import json_address, plain_folder
from taskctx_sql.model import ContextKey, Imported, TransferProgress, sum_progress
from taskctx_sql.stores import ContextStore

# How often a file that somebody writes to meanwhile is read again.
ATTEMPTS: Final = 10


async def import_folder(
    folder: str | Path,
    store: ContextStore,
    *,
    user_id: str,
    chat_id: str | None = None,
    verify: bool = True,
    progress: TransferProgress | None = None,
) -> Imported:
    """Import a folder of JSON files into a database. The folder is not changed.

    An entry that the database already has is not written again, so an import can be interrupted and repeated. Every
    whole entry of a damaged file is imported; the result lists the damaged parts by their bytes. Files that were set
    aside as unreadable come before the file that replaced them.

    Args:
        folder: The folder of the files.
        store: An open database.
        user_id: Whose files they are, which the files do not say.
        chat_id: Import only this chat.
        verify: Read the files again afterwards, and check that the database has each of their entries.
        progress: Called with the file's chat, the bytes done and their total.

    Returns:
        The result for each chat, in the order in which their files were last changed, which becomes the order in
        which the contexts were created.

    Raises:
        MissingHistoriesError: There is no such folder, or no history file in it.
        InvalidDatabaseUrlError: The store is not a database.
        InvalidIdError: The user_id is not a valid one.
        StoreError: The database failed; what was imported before is there.
    """
    from taskctx_sql.sql.store import as_database
    from taskctx_sql.sql.transfer import import_files

    database = as_database(store)
    ContextKey(user_id, "")
    started = time.monotonic()
    folder = plain_folder(folder)
    paths, ignored = chat_files(folder, chat_id)
    chats = [import_files.ChatFiles(chat, of_chat) for chat, of_chat in paths.items()]
    imported = Imported(json_address(folder), store.database_url, [files.chat for files in chats], ignored)
    report = sum_progress(progress, sum(files.size for files in chats) * (2 if verify else 1))
    for files in chats:
        try:
            key = ContextKey(user_id, files.chat.chat_id)
            for _ in range(ATTEMPTS):
                before = files.signatures()
                await import_files.import_chat(database, key, files, report)
                if verify:
                    files.chat.verified = await import_files.verify_chat(database, key, files, report)
                if files.chat.ok or files.signatures() == before:
                    break
                # Somebody wrote to the files meanwhile: differences may only be newer entries, or half-written ones.
        except (OSError, InvalidIdError, StaleContextError) as error:
            files.chat.error = " ".join(str(error).split())
    imported.seconds = time.monotonic() - started
    return imported
