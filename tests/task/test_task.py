"""Entering and leaving a context, and the two faces."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from taskctx_sql import ContextKey, SqlStore, Store, TaskContext, blocking, open_store, task_context
from tests.support.contract import loaded, stored


async def test_entering_starts_the_clock_and_yields_the_context(tmp_path: Path, clock: Any) -> None:
    context = TaskContext({}, tmp_path, clock=clock)
    async with context as entered:
        assert entered is context
        assert context.start_time == clock.now


async def test_entering_loads_and_leaving_saves(address: str, user: str) -> None:
    for number in range(3):
        async with task_context({"user_id": user, "chat_id": "c"}, database_url=address) as context:
            assert [update.data for update in context.context_history] == list(range(number))
            context.add_context_update("message", number)


def test_the_sync_face_does_all_that_the_async_one_does(address: str, user: str) -> None:
    data = {"user_id": user, "chat_id": "c"}
    with task_context(data, database_url=address, history_limit=2) as context:
        for number in range(5):
            context.add_context_update("message", number)
        assert blocking(context.save()) > 0
        blocking(context.truncate_context_history(context.context_history[3].timestamp))
        context.track_file_operation("a", "read")
    with task_context(data, database_url=address, history_limit=2) as context:
        assert len(context.context_history) == 2
        assert [update.data for update in blocking(context.earlier_updates())] == [2, 1, 0]
        context.add_context_update("message", "last")
        blocking(context.save(if_unchanged=True))
        blocking(context.load())
    with open_store(address) as store:
        assert len(list(blocking(store.updates(context.key)))) == 6
        assert [summary.chat_id for summary in blocking(store.contexts(user))] == ["c"]
        assert blocking(store.delete(context.key))


async def test_a_sync_block_works_inside_a_running_loop(address: str, user: str) -> None:
    with task_context({"user_id": user, "chat_id": "c"}, database_url=address) as context:
        context.add_context_update("message", "in a loop")
    async with open_store(address) as store:
        assert await stored(store, context.key) == ["in a loop"]


def test_sync_blocks_work_on_many_threads_at_once(address: str, user: str) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with task_context({"user_id": user, "chat_id": "c"}, database_url=address) as context:
                context.add_context_update("message", number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with open_store(address) as store:
        found = blocking(store.load(ContextKey(user, "c")))
        assert sorted(row.update.data for row in found.updates) == list(range(8))


async def test_a_context_entered_within_itself_is_one_run(database_url: str, user: str) -> None:
    async with open_store(database_url) as store:
        assert isinstance(store, SqlStore)
        async with task_context({"user_id": user, "chat_id": "c"}, store=store) as context:
            async with context:
                context.add_context_update("message", "inner")
            assert await stored(store, context.key) == ["inner"]
            context.add_context_update("message", "outer")
        assert await stored(store, context.key) == ["inner", "outer"]
        assert len(await store.reports.context_runs(context.key)) == 1


async def test_a_context_can_be_entered_again(address: str, user: str) -> None:
    context = task_context({"user_id": user, "chat_id": "c"}, database_url=address)
    for number in range(3):
        async with context:
            context.add_context_update("message", number)
    async with open_store(address) as store:
        assert await stored(store, context.key) == [0, 1, 2]


async def test_entering_again_sees_what_others_saved_to_a_file_meanwhile(tmp_path: Path) -> None:
    one, other = TaskContext({"chat_id": "c"}, tmp_path), TaskContext({"chat_id": "c"}, tmp_path)
    for number, context in enumerate((one, other, one)):
        async with context:
            assert len(context.context_history) == (0, 0, 2)[number]
            context.add_context_update("message", number)


async def test_what_was_added_before_entering_is_kept(address: str, user: str) -> None:
    data = {"user_id": user, "chat_id": "c"}
    async with task_context(data, database_url=address) as first:
        first.add_context_update("message", "first")
    context = task_context(data, database_url=address)
    context.add_context_update("message", "before entering")
    async with context:
        assert [update.data for update in context.context_history] == ["first", "before entering"]


async def test_a_context_that_was_not_entered_saves_and_loads_by_its_url(address: str, user: str) -> None:
    context = TaskContext({"user_id": user, "chat_id": "c"}, database_url=address)
    context.add_context_update("message", "a")
    await context.save()
    again = TaskContext({"user_id": user, "chat_id": "c"}, database_url=address)
    await again.load()
    assert [update.data for update in again.context_history] == ["a"]


async def test_a_store_that_was_passed_stays_open(store: Store, user: str) -> None:
    async with task_context({"user_id": user}, store=store):
        pass
    assert await store.contexts(user) is not None


async def test_a_failed_entering_leaves_nothing_open(tmp_path: Path) -> None:
    context = task_context({}, database_url=f"sqlite:///{tmp_path}/missing/x.db")
    for _ in range(2):
        with pytest.raises(Exception, match="check that the folder exists"):
            async with context:
                pass


async def test_a_cancelled_block_is_saved_and_its_run_is_cancelled(database_url: str, user: str) -> None:
    async def work() -> None:
        async with task_context({"user_id": user, "chat_id": "c"}, database_url=database_url) as context:
            context.add_context_update("message", "before the cancellation")
            entered.set()
            await asyncio.sleep(60)

    entered = asyncio.Event()
    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with open_store(database_url) as store:
        assert isinstance(store, SqlStore)
        context = await loaded(store, user, "c")
        assert len(context.context_history) == 1
        (run,) = await store.reports.context_runs(context.key)
        assert run.outcome == "cancelled"
