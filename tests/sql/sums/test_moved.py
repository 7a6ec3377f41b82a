"""Daily sums of what is copied, imported, optimized, restored and pruned, and of a database that is downgraded."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from taskctx_sql import ContextKey, SqlStore, TaskContext, open_store, schema
from taskctx_sql.maintenance import Retention, prune
from taskctx_sql.transfer import copy, import_folder
from tests.sql.sums.comparing import expect_the_same, fold, some_updates, uses

KEY = ContextKey("ann", "c1")


async def write(store: SqlStore, times: int) -> None:
    chance = random.Random(3)
    for _ in range(times):
        await store.write(KEY, updates=some_updates(chance), models=uses(chance, 2), state={"plan": "é"})


async def expect_change(own_url: str, store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Expect that a change is noted, and that the answers are those of the rows before it is summed and afterwards."""
    assert await schema.sums_backlog(own_url) == 1
    await expect_the_same(store, monkeypatch, {}, some=())
    assert await fold(store, 10) == 1
    await expect_the_same(store, monkeypatch, {}, some=())


async def test_what_is_copied_is_summed(
    own_url: str, store: SqlStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = f"sqlite:///{tmp_path / 'other.db'}"
    await schema.upgrade(other, sums=True)
    async with open_store(other) as source:
        assert isinstance(source, SqlStore)
        await write(source, 3)
        await copy(other, own_url)
        await expect_change(own_url, store, monkeypatch)
        assert await store.reports.tools() == await source.reports.tools()
        # Only what is new.
        await write(source, 1)
    await copy(other, own_url)
    await expect_change(own_url, store, monkeypatch)


async def test_what_is_imported_is_summed(
    own_url: str, store: SqlStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(f"json:///{tmp_path}") as files:
        context = TaskContext({"user_id": KEY.user_id, "chat_id": KEY.chat_id}, store=files)
        context.add_context_update("message", "hello")
        await context.save()
    await import_folder(tmp_path, store, user_id=KEY.user_id)
    assert [row.updates for row in await store.reports.users()] == [1]
    await expect_change(own_url, store, monkeypatch)


async def test_what_is_optimized_restored_and_pruned_is_summed(
    own_url: str, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(store, 4)
    await fold(store, 10)
    context = TaskContext({"user_id": KEY.user_id, "chat_id": KEY.chat_id}, store=store)
    await context.load()
    assert context.optimize_context(max_size=50)
    await context.save()
    (user,) = await store.reports.users()
    assert user.removed > 0
    await expect_change(own_url, store, monkeypatch)
    await context.restore(2)
    (restored,) = await store.reports.users()
    assert restored.updates > user.updates
    await expect_change(own_url, store, monkeypatch)
    await prune(store, Retention(removed_age=0))
    (pruned,) = await store.reports.users()
    assert pruned.updates < restored.updates
    await expect_change(own_url, store, monkeypatch)


async def test_a_downgrade_drops_the_sums(own_url: str, store: SqlStore) -> None:
    await schema.downgrade(own_url, "taskctx_0010")
    assert await schema.sums_backlog(own_url) is None
    await schema.upgrade(own_url)
    await write(store, 1)
    assert [row.user_id for row in await store.reports.users()] == [KEY.user_id]
