"""Removing permanently all data of a user, or of one chat."""

from __future__ import annotations

from functools import partial

from taskctx_sql import clock
from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.json_files import JsonStore, erase_files
from taskctx_sql.limits import check_number
from taskctx_sql.maintenance.prune import BATCH
from taskctx_sql.model import ContextKey, Pruned, Receipt
from taskctx_sql.stores import ContextStore


async def erase(store: ContextStore, user_id: str, chat_id: str | None = None, *, batch: int = BATCH) -> Receipt:
    """Remove permanently all of a user's contexts, or one of them.

    A program that still has one of them in memory gets `LostContextError` at its next save.

    Args:
        store: An open database or folder of JSON files.
        user_id: Whose contexts.
        chat_id: Erase only this chat. Required for a folder of JSON files, which do not say whose they are.
        batch: How many rows one transaction removes.

    Raises:
        InvalidIdError: An id is not a valid one.
        InvalidArgumentError: The batch is below 1, or a folder of JSON files needs the chat.
        InvalidDatabaseUrlError: The store is neither a database nor a folder of JSON files.
        StoreError: The store failed; erasing again continues.
    """
    check_number("batch", batch, 1)
    key = ContextKey(user_id, "" if chat_id is None else chat_id)
    removed = Pruned(store.database_url, dry_run=False)
    chats: list[str] = []
    if isinstance(store, JsonStore):
        if chat_id is None:
            raise InvalidArgumentError("chat_id", None, "a chat: JSON files do not say whose they are")
        counts = await store.run_in_thread("erase", partial(erase_files, store.folder, key))
        if counts["files"]:
            chats.append(key.chat_id)
        removed.add(counts)
    else:
        from taskctx_sql.sql.maintenance import Pruner
        from taskctx_sql.sql.store import as_database

        pruner = Pruner(as_database(store), removed, batch, None, key.user_id)
        async for page in pruner.contexts_of(key, all_chats=chat_id is None):
            await pruner.remove(page, guarded=False)
            chats += [context.chat_id for context in page]
    chat = None if chat_id is None else key.chat_id
    return Receipt(store.database_url, key.user_id, chat, tuple(chats), removed.rows, clock.now())
