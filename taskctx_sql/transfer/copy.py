"""Copying contexts between any two stores."""

from __future__ import annotations

import time

from taskctx_sql.errors import InvalidDatabaseUrlError, MissingHistoriesError, MissingUserError
from taskctx_sql.json_files import chat_files
from taskctx_sql.locations import is_json_address, json_folder, missing_file, shown_path
from taskctx_sql.model import Imported, TransferProgress, Transferred
from taskctx_sql.opening import open_store
from taskctx_sql.transfer.copy_files import copy_files
from taskctx_sql.transfer.export import export
from taskctx_sql.transfer.import_folder import import_folder


async def copy(
    source: str,
    target: str,
    *,
    user_id: str | None = None,
    chat_id: str | None = None,
    source_schema: str | None = None,
    target_schema: str | None = None,
    verify: bool = True,
    progress: TransferProgress | None = None,
) -> Transferred | Imported:
    """Copy contexts between any two stores, and compare both sides afterwards, entry by entry.

    Between databases rows are copied as they are, including removed ones, runs and revisions. A context that is in the
    target already is brought up to date if it only fell behind, and refused if it has changed there.

    Args:
        source: The URL of the store to read from.
        target: The URL of the store to write to.
        user_id: Copy only this user's contexts. Required when copying from JSON files to a database.
        chat_id: Copy only this chat of that user.
        source_schema: On Postgres, the schema of the source's tables.
        target_schema: On Postgres, the schema of the target's tables.
        verify: Compare both sides afterwards.
        progress: Called with what is being copied, how much is done, and the total.

    Raises:
        InvalidDatabaseUrlError: A URL is not understood, or both are the same.
        MissingUserError: The files' user is required.
        MissingHistoriesError: The folder of the source has no history files.
        StoreError: A store failed; what was copied before is there, and copying again continues.
    """
    started = time.monotonic()
    for url in (source, target):
        if not isinstance(url, str):
            raise InvalidDatabaseUrlError("***", f"it is a {type(url).__name__}")
    if (source, source_schema) == (target, target_schema):
        raise InvalidDatabaseUrlError(_masked(source), "it is both ends of the copy")
    if (missing := missing_file(source)) is not None:
        raise MissingHistoriesError(shown_path(missing), "there is no such file")
    if is_json_address(source):
        folder = json_folder(source)
        if is_json_address(target):
            return await copy_files(folder, json_folder(target), chat_id, verify, progress)
        if user_id is None:
            raise MissingUserError(_masked(source))
        # Check the folder before a database is created for nothing.
        chat_files(folder, chat_id)
        async with open_store(target, schema=target_schema) as store:
            return await import_folder(
                folder, store, user_id=user_id, chat_id=chat_id, verify=verify, progress=progress
            )
    async with open_store(source, schema=source_schema) as store:
        if is_json_address(target):
            return await export(
                store, json_folder(target), user_id=user_id, chat_id=chat_id, verify=verify, progress=progress
            )
        async with open_store(target, schema=target_schema) as other:
            from taskctx_sql.sql.store import as_database
            from taskctx_sql.sql.transfer import copy_database

            result = await copy_database(
                as_database(store), as_database(other), user_id, chat_id, verify=verify, progress=progress
            )
    result.seconds = time.monotonic() - started
    return result


def _masked(url: str) -> str:
    from taskctx_sql.sql.engines import mask

    return mask(url)
