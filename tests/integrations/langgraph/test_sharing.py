"""What a thread's tasks and checkpoints write at once shares saves."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from taskctx_sql import Store, open_store
from taskctx_sql.errors import UnstorableValueError
from taskctx_sql.integrations.langgraph import ContextSaver
from taskctx_sql.integrations.langgraph.cache import Cache
from taskctx_sql.integrations.langgraph.sharing import SharedSaves
from taskctx_sql.integrations.langgraph.thread import Thread
from tests.integrations.langgraph.checkpoints import key, put, thread

TASKS = [f"task-{number}" for number in range(20)]


async def test_writes_of_one_step_are_two_saves(store: Store, saver: ContextSaver, user: str) -> None:
    config = await put(saver, thread(), 0, messages=["hello"])
    (before, *_) = await store.revisions(key(user))
    # The first one is saved at once; the others come while it is.
    await asyncio.gather(*(saver.aput_writes(config, [("messages", task), ("other", task)], task) for task in TASKS))
    (revision, *_) = await store.revisions(key(user))
    assert revision.revision == before.revision + 2
    reader = ContextSaver(store, user_id=user)
    found = await reader.aget_tuple(config)
    assert found is not None
    assert sorted(found.pending_writes or []) == [
        (task, channel, task) for task in sorted(TASKS) for channel in ("messages", "other")
    ]


async def test_a_call_that_cannot_be_saved_fails_alone(database_url: str) -> None:
    async with open_store(database_url, strict=True) as store:
        began = asyncio.Event()

        class Saves(SharedSaves):
            async def _save(self, entries: Any, updates: Any) -> Any:
                began.set()
                return await store.write(key("alone"), state=entries, updates=updates)

        saves = Saves()
        values: list[Any] = [1, 2, object(), 4]
        results = await asyncio.gather(
            *(saves.write({f"value-{place}": value}, []) for place, value in enumerate(values)), return_exceptions=True
        )
        assert [type(result).__name__ for result in results] == ["Saved", "Saved", "UnstorableValueError", "Saved"]
        assert isinstance(results[2], UnstorableValueError)
        assert [entry.value for entry in await store.state(key("alone"))] == [1, 2, 4]


@pytest.mark.parametrize("when", ["before its save", "during its save"])
async def test_a_call_that_is_cancelled_takes_nothing_from_the_others(when: str) -> None:
    saved: list[list[str]] = []
    turns = [asyncio.Event(), asyncio.Event(), asyncio.Event()]
    began = [asyncio.Event(), asyncio.Event(), asyncio.Event()]

    class Saves(SharedSaves):
        async def _save(self, entries: Any, updates: Any) -> Any:
            number = len(saved)
            saved.append(list(entries))
            began[number].set()
            await turns[number].wait()
            return number

    saves = Saves()
    first = asyncio.create_task(saves.write({"first": 0}, []))
    await began[0].wait()
    others = [asyncio.create_task(saves.write({name: 0}, [])) for name in ("cancelled", "other")]
    await asyncio.sleep(0)
    if when == "during its save":
        turns[0].set()
        await began[1].wait()
    others[0].cancel()
    await asyncio.sleep(0)
    # Until its save has ended, it waits; before that has begun, it is taken out.
    assert others[0].done() is (when == "before its save")
    for turn in turns:
        turn.set()
    results: list[Any] = await asyncio.gather(first, *others, return_exceptions=True)
    assert [results[0], results[2]] == [0, 1]
    assert isinstance(results[1], asyncio.CancelledError)
    assert saved == [["first"], ["other"] if when == "before its save" else ["cancelled", "other"]]


async def test_a_thread_that_is_let_go_is_free_without_the_garbage_collector(store: Store, user: str) -> None:
    gc.collect()
    gc.disable()
    try:
        known = Thread(store, key(user), "t", Cache())
        await asyncio.gather(*(known.write({f"value-{number}": number}) for number in range(3)))
        left = weakref.ref(known)
        del known
        # The task that saved for the others ends.
        await asyncio.sleep(0)
    finally:
        gc.enable()
    assert left() is None
