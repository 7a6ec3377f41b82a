"""Each change of a context is noticed, saved, and there after a reload; what did not change is not written."""

from __future__ import annotations

from typing import Any

import pytest

from taskctx_sql import ContextUpdate, Feature, Store, TaskContext
from tests.support.contract import expect_reload, loaded, stored
from tests.support.faults import FaultyStore
from tests.task.saving.contexts import fill


async def test_a_context_with_everything_reloads_as_it_was(store: Store, user: str) -> None:
    context = TaskContext({"user_id": user, "chat_id": "c1", "metadata": {"b": 1, "a": {"c": [1]}}}, store=store)
    fill(context)
    context.track_file_operation("b.txt", "read", "user")
    context.track_file_operation("a.txt", "write")
    context.track_file_operation("b.txt", "write")
    context.track_model_usage("gpt-4", "openai", "chat", input_tokens=10, output_tokens=2, cost=0.5, duration=1.25)
    await context.save()
    await expect_reload(store, context)


async def test_saving_again_writes_nothing(store: Store, user: str) -> None:
    faulty = FaultyStore(store)
    context = await loaded(faulty, user)
    fill(context)
    first = await context.save()
    assert await context.save() == first
    assert len(faulty.deltas) == 1
    assert not context.has_unsaved_changes


async def test_a_second_save_hands_over_only_what_is_new(store: Store, user: str) -> None:
    faulty = FaultyStore(store)
    context = await loaded(faulty, user)
    fill(context, 50)
    context.track_file_operation("a", "read")
    context.track_model_usage("m", "p", "x")
    await context.save()
    context.add_context_update("message", "new")
    context.track_file_operation("b", "read")
    await context.save()
    delta = faulty.deltas[-1]
    assert [update.data for update in delta.updates] == ["new", {"path": "b", "operation": "read"}]
    assert [change.path for change in delta.files] == ["b"]
    assert not delta.models
    assert not delta.removed_updates
    assert delta.metadata is None


CHANGES: dict[str, Any] = {
    "pop the last": lambda h: h.pop(),
    "pop the first": lambda h: h.pop(0),
    "delete a slice": lambda h: h.__delitem__(slice(1, 4)),
    "remove one": lambda h: h.remove(h[2]),
    "clear": lambda h: h.clear(),
    "reverse": lambda h: h.reverse(),
    "sort": lambda h: h.sort(key=lambda update: -update.timestamp),
    "insert": lambda h: h.insert(2, ContextUpdate(5.0, "x", "inserted", {})),
    "replace one": lambda h: h.__setitem__(1, ContextUpdate(5.0, "x", "replaced", {})),
    "replace a slice": lambda h: h.__setitem__(slice(1, 3), [ContextUpdate(5.0, "x", "replaced", {})]),
    "extend": lambda h: h.extend([ContextUpdate(5.0, "x", "more", {})]),
    "add in place": lambda h: h.__iadd__([ContextUpdate(5.0, "x", "more", {})]),
    "repeat in place": lambda h: h.__imul__(2),
    "repeat never": lambda h: h.__imul__(0),
    "swap": lambda h: h.__setitem__(slice(0, 2), [h[1], h[0]]),
    "the same one twice": lambda h: h.append(h[1]),
    "edit data": lambda h: setattr(h[2], "data", {"edited": True}),
    "edit a timestamp": lambda h: setattr(h[0], "timestamp", 7.5),
    "edit a type": lambda h: setattr(h[-1], "update_type", "edited"),
    "edit metadata": lambda h: setattr(h[1], "metadata", {"edited": 1}),
    "edit and move": lambda h: [setattr(h[1], "data", "edited"), h.append(h.pop(0))],  # type: ignore[func-returns-value]
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_of_the_history_is_noticed_and_saved(store: Store, user: str, change: str) -> None:
    context = await loaded(store, user)
    fill(context, 6)
    await context.save()
    CHANGES[change](context.context_history)
    assert context.has_unsaved_changes
    await context.save()
    assert not context.has_unsaved_changes
    await expect_reload(store, context)


@pytest.mark.parametrize("change", CHANGES)
async def test_a_change_of_a_reloaded_history_is_noticed_and_saved(store: Store, user: str, change: str) -> None:
    context = await loaded(store, user)
    fill(context, 6)
    await context.save()
    again = await loaded(store, user)
    fill(again, 2)
    CHANGES[change](again.context_history)
    await again.save()
    await expect_reload(store, again)


async def test_a_history_assigned_anew_is_saved(store: Store, user: str) -> None:
    context = await loaded(store, user)
    fill(context, 6)
    await context.save()
    context.context_history = [context.context_history[1], context.context_history[4]]
    context.add_context_update("message", "after")
    await context.save()
    assert await stored(store, context.key) == ["m1", "m4", "after"]
    await expect_reload(store, context)


async def test_a_history_that_was_assigned_over_is_watched_no_more(store: Store, user: str) -> None:
    context = await loaded(store, user)
    fill(context, 3)
    await context.save()
    old = context.context_history
    context.context_history = list(old)
    old.clear()
    await context.save()
    assert await stored(store, context.key) == ["m0", "m1", "m2"]


async def test_an_update_in_two_contexts_is_noticed_by_both(store: Store, user: str) -> None:
    one, other = await loaded(store, user, "c1"), await loaded(store, user, "c2")
    fill(one, 2)
    await one.save()
    other.context_history.extend(one.context_history)
    await other.save()
    one.context_history[0].data = "edited"
    await one.save()
    await other.save()
    await expect_reload(store, one)
    await expect_reload(store, other)


async def test_optimizing_leaves_the_same_history_after_a_reload(store: Store, user: str) -> None:
    context = await loaded(store, user)
    for number in range(40):
        context.add_context_update("message", f"m{number % 7}", {})
    await context.save()
    assert context.optimize_context(max_size=10)
    await context.save()
    assert await stored(store, context.key) == ["m0", "m1", "m2", "m3", "m4"]
    await expect_reload(store, context)


async def test_truncating_saves_and_keeps_what_is_not_later(store: Store, user: str, clock: Any) -> None:
    context = TaskContext({"user_id": user, "chat_id": "c1"}, store=store, clock=clock)
    fill(context, 4)
    await context.truncate_context_history(context.context_history[1].timestamp)
    assert await stored(store, context.key) == ["m0", "m1"]


async def test_truncating_nothing_saves_nothing(store: Store, user: str) -> None:
    faulty = FaultyStore(store)
    context = await loaded(faulty, user)
    fill(context, 2)
    await context.truncate_context_history(9e12)
    assert not faulty.deltas


async def test_changes_of_the_trackers_are_saved(store: Store, user: str) -> None:
    context = await loaded(store, user)
    for name in "abcd":
        context.track_file_operation(name, "read")
    for number in range(3):
        context.track_model_usage(f"m{number}", "p", "x")
    await context.save()
    context.file_tracker["a"]["state"] = "closed"
    del context.file_tracker["b"]
    context.file_tracker["b"] = {"operation": "again", "source": "x", "timestamp": 1.0, "state": "active", "more": [1]}
    context.file_tracker.pop("c")
    context.file_tracker.update({"e": {"operation": "new"}})
    context.model_tracker[0]["cost"] = 0.5
    del context.model_tracker[1]
    await context.save()
    if Feature.TRACKERS in store.features:
        await expect_reload(store, context)
        context.file_tracker = {"z": {"operation": "only"}, "a": dict(context.file_tracker["a"])}
        context.model_tracker = [{"model_id": "by hand", "tokens": 3}]
        await context.save()
        context.model_tracker[0]["tokens"] = 4
        context.file_tracker.clear()
        context.file_tracker.setdefault("q", {"operation": "set"})
        await context.save()
        await expect_reload(store, context)


async def test_changes_of_the_metadata_are_saved(store: Store, user: str) -> None:
    context = TaskContext({"user_id": user, "chat_id": "c1", "metadata": {"a": {"deep": [1]}, "b": 2}}, store=store)
    await context.save()
    context.metadata["a"]["deep"].append(2)
    context.metadata["c"] = None
    del context.metadata["b"]
    context.metadata_toggles["a"] = False
    await context.save()
    again = await loaded(store, user)
    if Feature.METADATA in store.features:
        assert again.metadata == {"a": {"deep": [1, 2]}, "c": None}
        assert again.metadata_toggles == {"a": False}
        assert again.get_active_metadata() == {"c": None}


async def test_metadata_given_anew_is_laid_over_what_is_stored(store: Store, user: str) -> None:
    await TaskContext({"user_id": user, "chat_id": "c1", "metadata": {"a": 1, "b": 1}}, store=store).save()
    context = TaskContext({"user_id": user, "chat_id": "c1", "metadata": {"b": 2, "c": 2}}, store=store)
    await context.load()
    kept = Feature.METADATA in store.features
    assert context.metadata == ({"a": 1, "b": 2, "c": 2} if kept else {"b": 2, "c": 2})
    await context.save()
    await expect_reload(store, context)
