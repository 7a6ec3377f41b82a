"""Edits and removals beside loads, restores and undos stay where they were made."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from taskctx_sql import Feature, Store, TaskContext
from tests.support.contract import expect_reload, loaded, stored


async def test_a_context_that_was_never_loaded_is_restored_with_what_was_added_meanwhile(
    store: Store, user: str
) -> None:
    if Feature.REVISIONS not in store.features:
        return
    first = await loaded(store, user)
    for data in (1, 2):
        first.add_context_update("m", data)
        await first.save()
    context = TaskContext({"user_id": user, "chat_id": "c1"}, store=store)

    async def add() -> None:
        await asyncio.sleep(0)
        context.add_context_update("m", "mine")

    await asyncio.gather(context.restore(1), add())
    assert context.has_unsaved_changes
    await context.save()
    assert await stored(store, context.key) == [1, "mine"]


async def test_an_edit_beside_several_loads_stays_in_its_place(store: Store, user: str) -> None:
    if Feature.REVISIONS not in store.features:
        return
    context = await loaded(store, user)
    for data in ("a", "b", "c"):
        context.add_context_update("m", data)
        await context.save()
    loading = asyncio.ensure_future(context.load(revision=2))
    await asyncio.sleep(0)
    context.context_history[0].data = "edited"
    await loading
    assert [update.data for update in context.context_history] == ["edited", "b"]
    for _ in range(2):
        await context.load()
    assert [update.data for update in context.context_history] == ["edited", "b", "c"]
    context.add_context_update("m", "d")
    await context.save()
    assert await stored(store, context.key) == ["edited", "b", "c", "d"]
    context.context_history[1].data = "edited, too"
    await context.load()
    await context.save()
    assert await stored(store, context.key) == ["edited", "edited, too", "c", "d"]


async def test_an_edit_while_a_restore_awaits_is_kept_and_doubles_nothing(store: Store, user: str) -> None:
    if Feature.REVISIONS not in store.features:
        return
    context = await loaded(store, user)
    for data in ("a", "b"):
        context.add_context_update("m", data)
    await context.save()
    context.context_history[0].data = "an edit"
    await context.save()
    restoring = asyncio.ensure_future(context.restore(1))
    await asyncio.sleep(0)
    context.context_history[0].data = "mine"
    await restoring
    await context.save()
    assert [update.data for update in context.context_history] == ["mine", "b"]
    await expect_reload(store, context)


async def test_what_an_undo_writes_anew_is_edited_and_removed_where_it_stands(store: Store, user: str) -> None:
    if Feature.REVISIONS not in store.features:
        return
    context = await loaded(store, user)
    for data in ("a", "b", "c", "d"):
        context.add_context_update("m", data)
        context.model_tracker.append({"model_id": data})
    await context.save()
    assert context.optimize_context(2)
    await context.save()
    left = list(context.context_history)
    assert [update.data for update in left] == ["c", "d"]
    undoing = asyncio.ensure_future(context.undo())
    await asyncio.sleep(0)
    left[0].data = "edited"
    context.context_history.remove(left[1])
    await undoing
    for _ in range(2):
        assert [update.data for update in context.context_history] == ["a", "b", "edited"]
        await context.save()
    await expect_reload(store, context)


async def test_a_use_that_a_restore_writes_anew_is_edited_where_it_stands(store: Store, user: str) -> None:
    if Feature.REVISIONS not in store.features:
        return
    context = await loaded(store, user)
    for model in ("a", "b", "c"):
        context.track_model_usage(model, "p", "x")
    await context.save()
    del context.model_tracker[1]
    await context.save()
    restoring = asyncio.ensure_future(context.restore(1))
    await asyncio.sleep(0)
    context.model_tracker[1]["input_tokens"] = 3
    await restoring
    await context.save()
    uses = [(entry["model_id"], entry.get("input_tokens")) for entry in context.model_tracker]
    assert uses == [("a", None), ("b", None), ("c", 3)]
    await expect_reload(store, context)


async def test_what_somebody_edits_stays_though_it_was_taken_out_here(store: Store, user: str) -> None:
    context = await loaded(store, user)
    for data in ("a", "b"):
        context.add_context_update("m", data)
    await context.save()
    other = await loaded(store, user)
    other.context_history[0].data = "theirs"
    await other.save()
    del context.context_history[0]
    await context.load()
    await context.save()
    assert [update.data for update in context.context_history] == ["theirs", "b"]
    await expect_reload(store, context)


async def test_changes_concern_nothing_of_a_context_that_was_made_anew(store: Store, user: str) -> None:
    if Feature.REVISIONS not in store.features:
        # There it is a file that others changed.
        return
    context = await loaded(store, user)
    for data in ("a", "b", "c"):
        context.add_context_update("m", data)
        context.file_tracker[data] = {"operation": "read"}
        context.model_tracker.append({"model_id": data})
        context.metadata[data] = data
    await context.save()
    await store.delete(context.key)
    other = await loaded(store, user)
    for data in ("x", "b", "z"):
        other.add_context_update("m", data)
        other.file_tracker[data] = {"operation": "write"}
        other.model_tracker.append({"model_id": data})
        other.metadata[data] = data
    await other.save()
    context.context_history[0].data = "edited"
    del context.context_history[1], context.model_tracker[1], context.file_tracker["b"], context.metadata["b"]
    context.model_tracker[0]["cost"] = 1.0
    await context.load()
    await context.save()
    await expect_reload(store, context)
    assert [update.data for update in context.context_history] == ["x", "b", "z", "edited"]
    assert list(context.file_tracker) == ["x", "b", "z"]
    assert context.model_tracker == [{"model_id": one} for one in "xbz"] + [{"model_id": "a", "cost": 1.0}]
    assert list(context.metadata) == ["x", "b", "z"]


@pytest.mark.parametrize("choice", [{"history_limit": 2}, {"types": ["other"]}, {"max_chars": 2}], ids=str)
async def test_a_change_of_what_a_load_leaves_out_is_kept(store: Store, user: str, choice: dict[str, Any]) -> None:
    limit = choice.get("history_limit")
    data = {"user_id": user, "chat_id": "c"}
    other = TaskContext(data, store=store)
    for number in range(4):
        other.add_context_update("m", number)
    await other.save()
    context = TaskContext(data, store=store, history_limit=limit)
    await context.load()
    context.context_history[-2].data = "edited"
    del context.context_history[-1]
    for number in range(4, 7):
        other.add_context_update("other", number)
    await other.save()
    for _ in range(2):
        await (context.load(**choice) if limit is None else context.load())
        assert [update.data for update in context.context_history][:1] == ["edited"]
    await context.save()
    assert sorted(map(str, await stored(store, context.key))) == ["0", "1", "4", "5", "6", "edited"]
    if limit is not None:
        assert await stored(store, context.key) == [0, 1, "edited", 4, 5, 6]
    assert not context.has_unsaved_changes


async def test_an_edit_of_an_earlier_version_is_put_on_the_present_one(store: Store, user: str) -> None:
    if Feature.REVISIONS not in store.features:
        return
    context = await loaded(store, user)
    for data in ("a", "b"):
        context.add_context_update("m", data)
    await context.save()
    context.context_history[0].data = "edited"
    await context.save()
    await context.load(revision=1)
    loading = asyncio.ensure_future(context.load(revision=1))
    await asyncio.sleep(0)
    context.context_history[0].data = "mine"
    await loading
    await context.load()
    assert [update.data for update in context.context_history] == ["mine", "b"]
    await context.save()
    await expect_reload(store, context)


async def test_an_edit_of_what_somebody_took_out_is_not_put_on_another_update(store: Store, user: str) -> None:
    if Feature.REVISIONS not in store.features:
        return
    context = TaskContext({"user_id": user, "chat_id": "c"}, store=store, clock=lambda: 7.0)
    for data in ("a", "b"):
        context.add_context_update("m", data)
    await context.save()
    other = TaskContext({"user_id": user, "chat_id": "c"}, store=store, clock=lambda: 7.0)
    await other.load()
    del other.context_history[:]
    other.add_context_update("m", "theirs")
    await other.save()
    context.context_history[0].data = "mine"
    await context.load()
    assert [update.data for update in context.context_history] == ["theirs", "mine"]
    await context.save()
    await expect_reload(store, context)


async def test_an_edit_and_a_removal_while_an_earlier_state_is_loaded_concern_the_present(
    store: Store, user: str
) -> None:
    if Feature.REVISIONS not in store.features:
        return
    context = await loaded(store, user)
    for data in ("a", "b", "c", "d"):
        context.add_context_update("m", data)
        context.model_tracker.append({"model_id": data})
        await context.save()
    loading = asyncio.ensure_future(context.load(revision=1))
    await asyncio.sleep(0)
    del context.context_history[1]
    del context.model_tracker[1]
    context.context_history[1].data = "edited"
    await loading
    assert context.is_past
    assert [update.data for update in context.context_history] == ["a"]
    assert context.has_unsaved_changes
    await context.load()
    await context.save()
    assert await stored(store, context.key) == ["a", "edited", "d"]
    assert [entry["model_id"] for entry in context.model_tracker] == ["a", "c", "d"]
    await expect_reload(store, context)
