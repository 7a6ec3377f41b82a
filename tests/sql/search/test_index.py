"""The search index: the same hits as without, whatever is saved and removed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql import ContextKey, ContextUpdate, SqlStore, open_store, schema
from taskctx_sql.locations import file_address
from taskctx_sql.maintenance import Retention, erase, prune
from taskctx_sql.model.search import SearchHit
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.backends import catch_up
from taskctx_sql.sql.schema import contexts
from taskctx_sql.sql.search import search
from taskctx_sql.transfer import copy
from tests.sql.search.oracle import expect_answers, fill
from tests.support.contract import loaded
from tests.support.waiting import until


async def same_hits(store: SqlStore, monkeypatch: pytest.MonkeyPatch, text: str, **filters: Any) -> list[SearchHit]:
    """Search with and without the index, by pages and at once, and expect the same hits."""
    found = await store.search(text, **filters)
    pages: list[SearchHit] = []
    while page := await store.search(text, **filters, limit=7, after=pages[-1] if pages else None):
        pages += page
    assert pages == found
    assert await store.search(text, **filters).count() == len(found)
    assert await store.search(text, **filters).count(at_most=3) == min(3, len(found))
    assert [hit async for hit in store.search(text, **filters)] == found
    ranked = await store.search(text, **filters, order="relevance")
    with monkeypatch.context() as patch:
        patch.setattr(search, "MOST_UPDATES", 10**9)
        patch.setattr(search, "MOST_CONTEXTS", 10**9)
        assert await store.search(text, **filters) == found
        assert await store.search(text, **filters, order="relevance") == ranked
    return found


@pytest.mark.usefixtures("index")
async def test_hits_are_the_same_before_and_after_they_are_indexed(
    engine: AsyncEngine, sql_store: SqlStore, user: str
) -> None:
    key = ContextKey(user, "c1")
    texts = await fill(sql_store, key)
    assert await schema.search_backlog(engine) == len(texts)
    await expect_answers(sql_store, key, texts)
    await schema.upgrade(engine, search=True)
    assert await schema.search_backlog(engine) == 0
    await expect_answers(sql_store, key, texts)


@pytest.mark.usefixtures("index")
async def test_hits_are_the_same_whatever_is_saved_and_removed(
    engine: AsyncEngine, sql_store: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(7)
    keys = [ContextKey(user, f"c{number}") for number in range(4)]
    for turn in range(4):
        for key in keys:
            # Many have the same time, or none.
            times = [chance.choice([None, 1_700_000_000.0, 1_700_000_000.0004, -1e300, 2e9 + turn]) for _ in range(9)]
            words = [f"{chance.choice(['apple', 'pear', 'plum'])} {chance.choice('中文')}" for _ in times]
            new: Any = [
                ContextUpdate(at, chance.choice(["message", "note"]), word, {})  # type: ignore[arg-type]  # stored contexts may have no time
                for word, at in zip(words, times, strict=True)
            ]
            await sql_store.write(key, updates=new)
        await schema.upgrade(engine, search=True)
        if turn == 1:
            await sql_store.fork(keys[0], "fork")
            await sql_store.delete(keys[1])
    key = keys[2]
    await prune(sql_store, Retention(max_contexts=4), user_id=user)
    for text in ("apple", "pear 中", "中", "no such"):
        found = await same_hits(sql_store, monkeypatch, text, user_id=user)
        assert (not found) == (text == "no such")
        noted = await same_hits(sql_store, monkeypatch, text, user_id=user, update_type="note")
        assert noted == [hit for hit in found if hit.update_type == "note"]
        await same_hits(sql_store, monkeypatch, text, user_id=user, since=1_700_000_000.0003, until=2e9 + 2)
        assert {hit.chat_id for hit in await same_hits(sql_store, monkeypatch, text, user_id=user, chat_id="c2")} <= {
            "c2"
        }
    # What is only partly copied is not there.
    partly = sa.update(contexts).where(contexts.c.context_id == row_codec.context_id(keys[0])).values(revision=0)
    async with engine.begin() as connection:
        await connection.execute(partly)
    assert "c0" not in {hit.chat_id for hit in await same_hits(sql_store, monkeypatch, "apple", user_id=user)}
    await erase(sql_store, user, key.chat_id)
    assert "c2" not in {hit.chat_id for hit in await same_hits(sql_store, monkeypatch, "apple", user_id=user)}
    await erase(sql_store, user)
    for table in ("taskctx_search_rows", "taskctx_search_queue"):
        async with engine.connect() as connection:
            kept = "SELECT 1 FROM taskctx_updates u WHERE u.context_id = s.context_id AND u.seq = s.seq"
            left = f"SELECT count(*) FROM {table} s WHERE NOT EXISTS ({kept})"
            assert await connection.scalar(sa.text(left)) == 0


@pytest.mark.usefixtures("index")
async def test_hits_are_the_same_after_a_task_was_changed_and_others_were_copied(
    engine: AsyncEngine,
    database_url: str,
    sql_store: SqlStore,
    user: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected: dict[str, int] = {}

    async def expect(chat: str, hits: int) -> None:
        """Expect so many hits in the history of a chat, before and after what is new is indexed."""
        expected[chat] = hits
        for _ in range(2):
            found = await same_hits(sql_store, monkeypatch, "apple", user_id=user)
            for one, count in expected.items():
                assert sum(hit.chat_id == one and not hit.removed for hit in found) == count, one
            await schema.upgrade(engine, search=True)

    context = await loaded(sql_store, user, "changed")
    for number in range(4):
        context.add_context_update("message", f"apple {number // 2} \u4e2d")
        context.add_context_update("message", f"pear {number}")
    await context.save()
    await expect("changed", 4)
    assert context.optimize_context()
    await context.save()
    await expect("changed", 2)
    await context.undo()
    await expect("changed", 4)
    context.context_history.clear()
    await context.save()
    await expect("changed", 0)
    await context.restore(1)
    await expect("changed", 4)
    for name in ("sqlite", "json"):
        source = file_address(name, tmp_path / f"source-{name}")
        await schema.upgrade(source) if name == "sqlite" else None
        async with open_store(source) as store:
            copied = await loaded(store, user, name)
            for text in ("an apple", "a plum"):
                copied.add_context_update("message", text)
            await copied.save()
        await copy(source, database_url, user_id=user)
        await expect(name, 1)


async def test_what_is_saved_is_indexed_by_itself(
    database_url: str, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "IDLE", 0.01)
    monkeypatch.setattr(catch_up, "LOOK_SECONDS", 0.0)
    await schema.upgrade(database_url)
    try:
        async with open_store(database_url) as store:
            await store.write(ContextKey(user, "c1"), updates=[("message", "before the index")])
            # By another program, which the store notices.
            await schema.upgrade(database_url, search=True)
            await store.write(ContextKey(user, "c1"), updates=[("message", f"number {n}") for n in range(250)])

            async def is_indexed() -> bool:
                return not await store.search_backlog()

            await until(is_indexed)
            assert await store.search("number", user_id=user).count() == 250
    finally:
        await schema.upgrade(database_url, search=False)
        assert await schema.search_backlog(database_url) is None
