"""A database that was set back to a backup, while others write to it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from taskctx_sql import TaskContext, open_store
from taskctx_sql.errors import LostContextError

DATA = {"user_id": "u", "chat_id": "c"}


async def test_one_load_is_enough_though_another_writer_saves_after_it(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    async with open_store(f"sqlite:///{path}") as store:
        context = TaskContext(DATA, store=store)
        context.add_context_update("message", 0)
        await context.save()
        backup = sqlite3.connect(":memory:")
        file = sqlite3.connect(path)
        file.backup(backup)
        for number in (1, 2):
            context.add_context_update("message", number)
            await context.save()
        backup.backup(file)
        file.close()
        backup.close()
        context.add_context_update("message", 3)
        with pytest.raises(LostContextError):
            await context.save()
        await context.load()
        other = TaskContext(DATA, store=store)
        await other.load()
        other.add_context_update("message", "other")
        await other.save()
        await context.save()
        await other.load()
    assert [update.data for update in other.context_history] == [0, "other", 3]


async def test_a_row_with_other_numbers_than_memory_has_seen_is_read_first(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    async with open_store(f"sqlite:///{path}") as store:
        context = TaskContext(DATA, store=store)
        context.add_context_update("message", 0)
        await context.save()
        # The same revision, but written by others after the database was set back.
        file = sqlite3.connect(path)
        file.execute("UPDATE taskctx_updates SET seq = seq + 7")
        file.execute("UPDATE taskctx_contexts SET next_seq = next_seq + 7")
        file.commit()
        file.close()
        context.add_context_update("message", 1)
        await context.save()
        assert [(row.seq, row.update.data) async for row in store.updates(context.key)] == [(8, 0), (9, 1)]
