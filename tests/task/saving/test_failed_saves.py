"""A save that fails, is cancelled, or whose answer is lost, loses nothing and is written once."""

from __future__ import annotations

import asyncio
import gc

import pytest

from taskctx_sql import Store, TaskContext
from taskctx_sql.errors import StoreFailedError
from tests.support.contract import expect_reload, loaded, stored
from tests.support.faults import FaultyStore
from tests.task.saving.contexts import fill


async def test_a_failed_save_loses_nothing_and_the_next_one_writes_it(store: Store, user: str) -> None:
    faulty = FaultyStore(store)
    context = await loaded(faulty, user)
    fill(context, 3)
    context.track_file_operation("a", "read")
    context.metadata["k"] = 1
    faulty.faults = ["before"]
    with pytest.raises(StoreFailedError):
        await context.save()
    assert context.has_unsaved_changes
    assert await stored(store, context.key) == []
    fill(context, 1)
    context.context_history[0].data = "edited"
    await context.save()
    await expect_reload(store, context)


@pytest.mark.parametrize("fault", ["before", "lost before", "lost after"])
async def test_edits_of_saved_entries_outlive_a_failed_save(store: Store, user: str, fault: str) -> None:
    faulty = FaultyStore(store)
    context = await loaded(faulty, user)
    fill(context, 3)
    context.track_model_usage("m", "p", "x")
    context.track_file_operation("a", "read")
    await context.save()
    context.context_history[1].data = "edited"
    context.model_tracker[0]["cost"] = 0.5
    context.file_tracker["a"]["state"] = "closed"
    faulty.faults = [fault]
    with pytest.raises(StoreFailedError):
        await context.save()
    await context.save()
    await expect_reload(store, context)


@pytest.mark.parametrize("fault", ["lost before", "lost after"])
async def test_a_save_whose_outcome_is_unknown_is_written_once(store: Store, user: str, fault: str) -> None:
    faulty = FaultyStore(store)
    context = await loaded(faulty, user)
    fill(context, 2)
    await context.save()
    fill(context, 3)
    context.track_file_operation("a", "read")
    context.track_model_usage("m", "p", "x")
    context.metadata["k"] = 1
    faulty.faults = [fault, fault]
    for _ in range(2):
        with pytest.raises(StoreFailedError):
            await context.save()
    assert context.has_unsaved_changes
    context.add_context_update("message", "later")
    context.context_history[2].data = "edited meanwhile"
    context.metadata["k"] = 2
    await context.save()
    await expect_reload(store, context)
    assert not context.has_unsaved_changes


@pytest.mark.parametrize("fault", ["lost before", "lost after"])
async def test_a_run_whose_end_is_in_doubt_is_settled_by_the_next_one(store: Store, user: str, fault: str) -> None:
    faulty = FaultyStore(store)
    context = TaskContext({"user_id": user, "chat_id": "c1"}, store=faulty)
    faulty.faults = [fault]
    with pytest.raises(StoreFailedError):
        async with context:
            context.add_context_update("message", "first run")
    async with context:
        context.add_context_update("message", "second run")
    await expect_reload(store, context)
    assert await stored(store, context.key) == ["first run", "second run"]
    runs = {delta.run.run_id: delta.run for delta in faulty.deltas}
    assert [run.outcome for run in runs.values()] == ["completed", "completed"]


@pytest.mark.parametrize("fault", ["before", "lost before", "lost after"])
async def test_a_load_after_a_failed_save_keeps_what_is_unsaved(store: Store, user: str, fault: str) -> None:
    faulty = FaultyStore(store)
    context = await loaded(faulty, user)
    fill(context, 3)
    await context.save()
    del context.context_history[0]
    context.add_context_update("message", "unsaved")
    faulty.faults = [fault]
    with pytest.raises(StoreFailedError):
        await context.save()
    await context.load()
    assert [update.data for update in context.context_history] == ["m1", "m2", "unsaved"]
    await context.save()
    await expect_reload(store, context)


async def test_what_is_added_during_a_save_is_saved_by_the_next(store: Store, user: str) -> None:
    faulty = FaultyStore(store)
    faulty.slow = 0.05
    context = await loaded(faulty, user)
    fill(context, 3)
    context.track_file_operation("a", "read")
    context.track_file_operation("gone", "read")
    saving = asyncio.create_task(context.save())
    await asyncio.sleep(0.02)
    context.add_context_update("message", "meanwhile")
    context.context_history[1].data = "edited meanwhile"
    del context.context_history[0]
    context.file_tracker["a"]["state"] = "closed"
    del context.file_tracker["gone"]
    context.metadata["k"] = "meanwhile"
    await saving
    assert context.has_unsaved_changes
    await context.save()
    await expect_reload(store, context)


async def test_saves_of_one_context_at_once_write_everything_once(store: Store, user: str) -> None:
    context = await loaded(store, user)

    async def step(number: int) -> None:
        context.add_context_update("message", number)
        await context.save()

    await asyncio.gather(*(step(number) for number in range(20)))
    assert await stored(store, context.key) == list(range(20))
    await expect_reload(store, context)


async def test_a_cancelled_save_leaves_all_or_nothing_and_can_be_saved_again(store: Store, user: str) -> None:
    context = await loaded(store, user)
    for round_number in range(25):
        context.add_context_update("message", round_number)
        context.add_context_update("message", -round_number)
        saving = asyncio.create_task(context.save())
        await asyncio.sleep(0.0004 * round_number)
        saving.cancel()
        await asyncio.gather(saving, return_exceptions=True)
        assert len(await stored(store, context.key)) % 2 == 0
    await context.save()
    assert len(await stored(store, context.key)) == 50
    await expect_reload(store, context)


async def test_a_first_save_whose_answer_is_lost_is_known_when_it_comes_again(store: Store, user: str) -> None:
    faulty = FaultyStore(store)
    faulty.faults = ["lost after"]
    context = TaskContext({"user_id": user, "chat_id": "c"}, store=faulty)
    context.add_context_update("message", "once")
    with pytest.raises(StoreFailedError):
        await context.save()
    # Whatever the store knows of it, nobody else holds on to.
    await store.contexts(user)
    gc.collect()
    await context.save()
    assert await stored(store, context.key) == ["once"]


async def test_a_first_save_that_is_cancelled_is_known_when_it_comes_again(store: Store, user: str) -> None:
    for number in range(20):
        context = TaskContext({"user_id": user, "chat_id": f"c{number}"}, store=store)
        context.add_context_update("message", "once")
        save = asyncio.create_task(context.save())
        await asyncio.sleep(number * 0.0002)
        save.cancel()
        await asyncio.gather(save, return_exceptions=True)
        gc.collect()
        await context.save()
        assert await stored(store, context.key) == ["once"]


async def test_what_was_tried_and_changed_nothing_is_not_unsaved(store: Store, user: str) -> None:
    context = await loaded(store, user)
    await context.save()
    context.file_tracker.pop("not there", None)
    assert not context.has_unsaved_changes
    context.file_tracker["a"] = {"operation": "read"}
    assert context.has_unsaved_changes
    del context.file_tracker["a"]
    assert not context.has_unsaved_changes
