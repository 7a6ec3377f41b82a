"""Importing what aiecs itself kept in Postgres."""

from __future__ import annotations

import time

from taskctx_sql.errors import InvalidDatabaseUrlError, InvalidIdError, StaleContextError
from taskctx_sql.locations import hidden
from taskctx_sql.model import Imported, TransferProgress, sum_progress
from taskctx_sql.stores import ContextStore


async def import_aiecs(
    database_url: str,
    store: ContextStore,
    *,
    user_id: str | None = None,
    chat_id: str | None = None,
    verify: bool = True,
    progress: TransferProgress | None = None,
) -> Imported:
    """Import the tables that aiecs (as of 2.2.0) keeps in Postgres: its snapshots of contexts, and the steps of tasks.

    Each session of ``context_task_contexts`` becomes the context that its newest snapshot names, with every entry that
    any of its snapshots has, and the newest metadata. Each task of ``task_history`` becomes a context whose chat is the
    task, with an update for each step, "error" for one that failed. The tables are only read. An entry that the
    context already has is not written again, so an import can be interrupted and repeated.

    Args:
        database_url: The database of aiecs.
        store: An open database of this library; it may be the same one.
        user_id: Import only this user's contexts.
        chat_id: Import only this chat or task.
        verify: Read the tables again afterwards, and check that the store has each of their entries.
        progress: Called with the chat, the rows done and their total.

    Returns:
        The result for each session and each task, the oldest first.

    Raises:
        MissingHistoriesError: The database has neither table.
        InvalidDatabaseUrlError: The URL is not one of Postgres, or the store is not a database.
        StoreError: One of the databases failed; what was imported before is there.
    """
    from taskctx_sql.sql.store import as_database
    from taskctx_sql.sql.transfer import import_files
    from taskctx_sql.sql.transfer.aiecs_tables import AiecsTables

    database = as_database(store)
    started = time.monotonic()
    if not database_url.startswith("postgres"):
        raise InvalidDatabaseUrlError(hidden(database_url), "aiecs keeps these tables in Postgres")
    tables = AiecsTables(database_url)
    try:
        tasks = await tables.tasks()
        imported = Imported(tables.shown, store.database_url)
        report = sum_progress(progress, sum(task.size for task in tasks) * (2 if verify else 1))
        for task in tasks:
            try:
                key = await task.key()
                if user_id not in (None, key.user_id) or chat_id not in (None, key.chat_id):
                    continue
                imported.chats.append(task.chat)
                await import_files.import_chat(database, key, task, report)
                if verify:
                    task.chat.verified = await import_files.verify_chat(database, key, task, report)
            except (InvalidIdError, StaleContextError) as error:
                task.chat.error = " ".join(str(error).split())
        imported.seconds = time.monotonic() - started
        return imported
    finally:
        await tables.close()
