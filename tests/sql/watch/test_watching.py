"""Watching a context: every committed update, whoever saves it, once and in order."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from taskctx_sql import ContextKey, Feature, SqlStore, Store, blocking, open_store
from taskctx_sql.errors import ContextNotFoundError, InvalidArgumentError, InvalidIdError, UnsupportedByStoreError
from tests.sql.watch.watches import cancel, saved, take, waits
from tests.support.connections import KINDS
from tests.support.contract import loaded, new_delta, stored

# A program of its own that saves as fast as it can.
WRITER = """
import asyncio, sys
from taskctx_sql import TaskContext, open_store

async def main(url, schema, user, name, saves):
    async with open_store(url, schema=schema or None) as store:
        context = TaskContext({"user_id": user, "chat_id": "c1"}, store=store)
        await context.load()
        for number in range(int(saves)):
            context.add_context_update("message", [name, number])
            await context.save()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_folder_of_files_says_that_it_cannot(tmp_path: Path) -> None:
    async with open_store("json:///tasks") as store:
        with pytest.raises(UnsupportedByStoreError, match="use a database") as raised:
            store.watch(ContextKey("u", "c"))
        assert raised.value.database_url == store.database_url
        assert raised.value.feature == Feature.REVISIONS.value
    assert list(tmp_path.iterdir()) == []


async def test_what_is_there_comes_first_and_then_what_is_saved(store: Store, user: str) -> None:
    context = await saved(store, user, "one", "two")
    async with aclosing(store.watch(ContextKey(user, "c1"))) as updates:
        assert [(row.seq, row.update.data) for row in await take(updates, 2)] == [(1, "one"), (2, "two")]
        coming = await waits(updates)
        context.add_context_update("message", {"step": 3}, {"deep": [None]})
        await context.save()
        row = await coming
        assert (row.seq, row.update.to_dict()) == (3, context.context_history[2].to_dict())


async def test_a_watch_begins_after_a_seq_and_waits_for_one_that_is_to_come(store: Store, user: str) -> None:
    context = await saved(store, user, *range(1, 4))
    async with (
        aclosing(store.watch(ContextKey(user, "c1"), after=2)) as updates,
        aclosing(store.watch(ContextKey(user, "c1"), after=4)) as far,
    ):
        assert [row.seq for row in await take(updates, 1)] == [3]
        coming = await waits(far)
        for data in (4, 5):
            context.add_context_update("message", data)
            await context.save()
        assert (await coming).update.data == 5
        assert [row.seq for row in await take(updates, 2)] == [4, 5]


async def test_an_update_removed_before_it_was_read_is_delivered(store: Store, user: str) -> None:
    context = await saved(store, user, *range(6))
    del context.context_history[1:4]
    context.context_history[-1].data = "edited"
    await context.save()
    async with aclosing(store.watch(ContextKey(user, "c1"))) as updates:
        assert [row.update.data for row in await take(updates, 7)] == [0, 1, 2, 3, 4, 5, "edited"]
    assert await stored(store, ContextKey(user, "c1")) == [0, 4, "edited"]


async def test_the_copies_of_a_restore_are_not_delivered_again(store: Store, user: str) -> None:
    context = await saved(store, user, 1, 2, 3)
    del context.context_history[0]
    await context.save()
    async with aclosing(store.watch(ContextKey(user, "c1"))) as updates:
        assert [row.update.data for row in await take(updates, 3)] == [1, 2, 3]
        await context.restore(3)
        context.add_context_update("message", 4)
        await context.save()
        assert [(row.seq, row.update.data) for row in await take(updates, 1)] == [(7, 4)]
    await context.fork("forked")
    async with aclosing(store.watch(ContextKey(user, "forked"))) as updates:
        assert [row.update.data for row in await take(updates, 4)] == [1, 2, 3, 4]


async def test_a_long_history_comes_page_by_page(store: Store, user: str) -> None:
    await store.save(new_delta(ContextKey(user, "c1"), *range(1_203)))
    async with aclosing(store.watch(ContextKey(user, "c1"))) as updates:
        assert [row.seq for row in await take(updates, 1_203)] == list(range(1, 1_204))


async def test_writers_of_other_processes_are_seen_without_a_gap(
    address: str, kind: str, store: Store, user: str
) -> None:
    writers, saves = 3, 30
    await saved(store, user, "first")
    async with aclosing(store.watch(ContextKey(user, "c1"))) as updates:
        command = (sys.executable, "-W", "error", "-c", WRITER, address, KINDS[kind].schema or "", user)
        started = [await asyncio.create_subprocess_exec(*command, str(number), str(saves)) for number in range(writers)]
        rows = await take(updates, 1 + writers * saves)
        for process in started:
            assert await process.wait() == 0
        await cancel(await waits(updates))
    assert [row.seq for row in rows] == list(range(1, 2 + writers * saves))
    for number in range(writers):
        assert [row.update.data[1] for row in rows[1:] if row.update.data[0] == str(number)] == list(range(saves))


async def test_a_database_in_memory_can_be_watched(user: str) -> None:
    async with open_store("sqlite:///:memory:") as store:
        context = await saved(store, user, "old")
        async with aclosing(store.watch(ContextKey(user, "c1"))) as updates:
            await take(updates, 1)
            coming = await waits(updates)
            context.add_context_update("message", "new")
            await context.save()
            assert (await coming).update.data == "new"
            coming = await waits(updates)
            await store.delete(context.key)
            with pytest.raises(ContextNotFoundError):
                await coming


async def test_a_file_that_was_replaced_under_a_watch_is_opened_again(tmp_path: Path, user: str) -> None:
    url = f"sqlite:///{tmp_path}/tasks.db"
    async with open_store(url) as store:
        await saved(store, user, "old")
    async with open_store(f"sqlite:///{tmp_path}/new.db") as other:
        await saved(other, user, "of the new file")
    async with open_store(url) as store:
        coming = await waits(store.watch(ContextKey(user, "c1"), after=1))
        for end in ("", "-wal", "-shm"):
            (tmp_path / f"tasks.db{end}").unlink(missing_ok=True)
        (tmp_path / "new.db").rename(tmp_path / "tasks.db")
        # Another context of the same name: its seqs mean something else.
        with pytest.raises(ContextNotFoundError):
            await coming


async def test_a_watch_of_a_missing_context_names_it(store: Store, user: str) -> None:
    updates = store.watch(ContextKey(user, "nowhere"))
    with pytest.raises(ContextNotFoundError, match="nowhere") as raised:
        await anext(updates)
    assert raised.value.key == ContextKey(user, "nowhere")
    assert await store.contexts(user) == []


async def test_a_context_that_was_created_again_is_another_one(store: Store, user: str) -> None:
    await saved(store, user, "old", "older")
    async with aclosing(store.watch(ContextKey(user, "c1"))) as updates:
        await take(updates, 1)
        await store.delete(ContextKey(user, "c1"))
        await saved(store, user, *range(5))
        assert [row.seq for row in await take(updates, 1)] == [2]
        with pytest.raises(ContextNotFoundError):
            await take(updates, 1)


async def test_a_watch_that_is_resumed_notices_that_the_context_was_created_again(store: Store, user: str) -> None:
    await saved(store, user, "old", "older")
    key = ContextKey(user, "c1")
    old = await store.load(key)
    async with aclosing(store.watch(key, after=1, created_at=old.created_at)) as updates:
        assert [row.seq for row in await take(updates, 1)] == [2]
    await store.delete(key)
    await saved(store, user, *range(5))
    with pytest.raises(ContextNotFoundError):
        await anext(store.watch(key, after=2, created_at=old.created_at))
    new = await store.load(key)
    assert new.created_at != old.created_at
    async with aclosing(store.watch(key, after=2, created_at=new.created_at)) as updates:
        assert [row.seq for row in await take(updates, 1)] == [3]


@pytest.mark.parametrize(
    "wrong",
    [
        {"created_at": "now"},
        {"created_at": True},
        {"after": -1},
        {"after": "3"},
        {"after": True},
        {"after": 1.0},
        {"poll_interval": 0},
        {"poll_interval": "1"},
    ],
)
async def test_what_makes_no_sense_is_named_at_the_call(sql_store: SqlStore, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
        sql_store.watch(ContextKey("u", "c"), **wrong)


async def test_an_id_that_cannot_be_is_named_at_the_call(sql_store: SqlStore) -> None:
    with pytest.raises(InvalidIdError):
        sql_store.watch(ContextKey("u", "c" * 300))


def test_sync_programs_watch_too(database_url: str, user: str) -> None:
    with open_store(database_url) as store:
        context = blocking(loaded(store, user))
        for data in ("one", "two"):
            context.add_context_update("message", data)
            blocking(context.save())
        seen = []
        for row in blocking(store.watch(ContextKey(user, "c1"))):
            seen.append(row.update.data)
            if len(seen) == 2:
                context.add_context_update("message", "three")
                blocking(context.save())
            elif len(seen) == 3:
                break
        assert seen == ["one", "two", "three"]
