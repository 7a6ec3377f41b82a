"""Savers of several processes or users on the same threads."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

from langgraph.checkpoint.base import Checkpoint, empty_checkpoint

from taskctx_sql import Store, open_store
from taskctx_sql.integrations.langgraph import ContextSaver
from tests.integrations.langgraph.checkpoints import key, put, thread, values_of


async def test_users_do_not_see_each_others_threads(store: Store, user: str) -> None:
    mine, theirs = (ContextSaver(store, user_id=f"{user}-{name}") for name in ("mine", "theirs"))
    await put(mine, thread(), 1, value="mine")
    assert await theirs.aget_tuple(thread()) is None
    await theirs.adelete_thread("t1")
    assert await values_of(mine, thread()) == {"value": "mine"}
    assert [found async for found in theirs.alist(None)] == []


async def test_a_thread_that_another_saver_deleted_is_begun_anew(store: Store, saver: ContextSaver, user: str) -> None:
    config = await put(saver, thread(), 1, values=["a"])
    await ContextSaver(store, user_id=user).adelete_thread("t1")
    checkpoint = empty_checkpoint()
    version = saver.get_next_version(None, None)
    checkpoint["channel_values"], checkpoint["channel_versions"] = {"values": ["a", "b"]}, {"values": version}
    await saver.aput(config, checkpoint, {"source": "loop", "step": 2}, {"values": version})
    assert await values_of(ContextSaver(store, user_id=user), thread()) == {"values": ["a", "b"]}


async def test_several_savers_write_of_one_task_at_once(store: Store, saver: ContextSaver, user: str) -> None:
    config = await put(saver, thread(), 1, x=1)
    # These have not read the checkpoint.
    others = [ContextSaver(store, user_id=user) for _ in range(2)]
    await asyncio.gather(
        saver.aput_writes(config, [("x", 2), ("y", 3)], "task"),
        others[0].aput_writes(config, [("__error__", "failed")], "task"),
        others[1].aput_writes(config, [("__interrupt__", "asked")], "task"),
        others[1].aput_writes(config, [("x", 4)], "another task"),
    )
    # The first write of a task at a place counts, whoever knows of it.
    await others[1].aput_writes(config, [("x", 5), ("y", 6), ("z", 7)], "task")
    found = await saver.aget_tuple(config)
    assert found is not None
    assert found.pending_writes is not None
    assert {write[1:] for write in found.pending_writes} == {
        ("x", 2), ("y", 3), ("z", 7), ("x", 4), ("__error__", "failed"), ("__interrupt__", "asked"),
    }  # fmt: skip


async def test_a_list_that_another_saver_pruned_is_written_again(store: Store, saver: ContextSaver, user: str) -> None:
    elements = [f"element {place} {'x' * 200}" for place in range(4)]
    config = await put(saver, thread(), 1, x=elements[:2])
    without: Checkpoint = empty_checkpoint()
    without["channel_versions"] = {"x": saver.get_next_version(None, None)}
    config = await saver.aput(config, without, {"source": "loop", "step": 2, "parents": {}}, {})
    await ContextSaver(store, user_id=user).aprune(["t1"])
    await put(saver, config, 3, x=elements)
    found = await ContextSaver(store, user_id=user).aget_tuple(thread())
    assert found is not None
    assert found.checkpoint["channel_values"] == {"x": elements}


async def test_a_thread_that_another_process_made_anew_is_written_as_a_whole(
    store: Store, saver: ContextSaver, database_url: str, user: str
) -> None:
    elements = [f"element {place} {'x' * 200}" for place in range(3)]
    # One knows what it wrote, with a writer that others share; another what it read, and has not written yet.
    config = await put(saver, thread(), 1, x=elements[:2])
    async with open_store(database_url) as connected:
        for one in (saver, ContextSaver(connected, user_id=user)):
            before = await one.aget_tuple(thread())
            await ContextSaver(store, user_id=user).adelete_thread("t1")
            await put(ContextSaver(store, user_id=user), thread(), 1, x=["anew"])
            checkpoint: Any = empty_checkpoint()
            versions: Any = {"x": one.get_next_version(None, None)}
            checkpoint |= {"channel_values": {"x": elements}, "channel_versions": versions}
            assert before is not None
            config = await one.aput(before.config, checkpoint, {"source": "loop", "step": 2, "parents": {}}, versions)
            assert await values_of(ContextSaver(store, user_id=user), config) == {"x": elements}


async def test_the_id_of_a_thread_comes_back_whole_and_a_fork_is_another_thread(store: Store, user: str) -> None:
    name, saver = f"{user}/{'t' * 300}", ContextSaver(store)
    await put(saver, thread(name, user_id=user), 1, x=1)
    await saver.aprune([name])
    await saver.acopy_thread(name, "c" * 300)
    await store.fork(key(user, name), "langgraph/a fork")

    async def threads() -> list[str]:
        found = ContextSaver(store, user_id=user).alist(None)
        return sorted([one.config["configurable"]["thread_id"] async for one in found])

    assert await threads() == ["a fork", "c" * 300, name]
    await saver.adelete_thread(name)
    assert await threads() == ["a fork", "c" * 300]


async def test_a_store_can_go_when_nobody_uses_it_any_more(database_url: str, user: str) -> None:
    store = await open_store(database_url)
    await put(ContextSaver(store, user_id=user), thread(), 1, x=1)
    await store.close()
    gone = weakref.ref(store)
    del store
    gc.collect()
    assert gone() is None
