"""A context over every store: what is unsaved, and what a save, a failure or a reload makes of it."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from taskctx_sql import ContextKey, ContextUpdate, Feature, Store, TaskContext
from taskctx_sql.errors import LostContextError, StaleContextError, StoreFailedError
from tests.support.contract import expect_reload, loaded, stored
from tests.support.faults import FaultyStore


def fill(context: TaskContext, count: int = 5) -> None:
    for number in range(count):
        context.add_context_update("message", f"m{number}", {"n": number})


# What changes, and what is written.


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


# Several writers.


@pytest.mark.parametrize("tracker", [False, True])
@pytest.mark.parametrize("second", ["edit", "remove", "move", "insert", "edit of the same"])
@pytest.mark.parametrize("first", ["edit", "remove", "insert"])
async def test_what_two_writers_change_is_there_once(
    store: Store, user: str, first: str, second: str, tracker: bool
) -> None:
    if tracker and Feature.TRACKERS not in store.features:
        return

    def entries(context: TaskContext) -> list[Any]:
        return context.model_tracker if tracker else context.context_history

    def entry(name: str, at: float) -> Any:
        return {"model_id": "m", "timestamp": at, "data": name} if tracker else ContextUpdate(at, "message", name, {})

    def edit(one: Any, name: str) -> None:
        if tracker:
            one["data"] = name
        else:
            one.data = name

    def names(context: TaskContext) -> list[str]:
        return [one["data"] if tracker else one.data for one in entries(context)]

    made = await loaded(store, user)
    entries(made).extend(entry(name, float(at)) for at, name in enumerate("abcdef"))
    await made.save()
    here, there = await loaded(store, user), await loaded(store, user)
    if first == "edit":
        edit(entries(there)[1], "B")
    elif first == "remove":
        del entries(there)[1]
    else:
        entries(there).insert(1, entry("new", 9.0))
    await there.save()
    if second == "edit":
        edit(entries(here)[2], "C")
    elif second == "remove":
        del entries(here)[2]
    elif second == "move":
        entries(here).append(entries(here).pop(2))
    elif second == "insert":
        entries(here).insert(2, entry("mine", 10.0))
    else:
        edit(entries(here)[1], "X")
    await here.save()
    kept = {"edit": {"c", "C"}, "remove": {"c"}, "edit of the same": {"b", "B", "X"}}.get(second, set())
    expected = (set(names(there)) | set("abcdef")) - kept - ({"b"} if first != "insert" else set())
    expected |= {"edit": {"C"}, "insert": {"mine"}, "edit of the same": {"X"}}.get(second, set())
    assert not here.has_unsaved_changes
    assert sorted(names(await loaded(store, user))) == sorted(expected)
    await here.load()
    assert sorted(names(here)) == sorted(expected)


async def test_writers_who_all_edit_keep_each_others_edits(store: Store, user: str) -> None:
    made = await loaded(store, user)
    fill(made, 5)
    await made.save()

    async def edits(place: int) -> None:
        context = await loaded(store, user)
        for turn in range(4):
            mine = next(update for update in context.context_history if update.metadata["n"] == place)
            mine.data = f"{place}/{turn}"
            await context.save()

    await asyncio.gather(*map(edits, range(5)))
    assert await stored(store, made.key) == [f"{place}/3" for place in range(5)]


# Failures.


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


# Several writers.


async def test_two_contexts_on_one_chat_both_keep_their_updates(store: Store, user: str) -> None:
    one, other = await loaded(store, user), await loaded(store, user)
    one.add_context_update("message", "one")
    other.add_context_update("message", "other")
    await one.save()
    await other.save()
    one.add_context_update("message", "one again")
    await one.save()
    assert await stored(store, one.key) == ["one", "other", "one again"]


async def test_saving_if_unchanged_is_refused_until_the_context_is_loaded_again(store: Store, user: str) -> None:
    one, other = await loaded(store, user), await loaded(store, user)
    one.add_context_update("message", "one")
    await one.save(if_unchanged=True)
    other.add_context_update("message", "other")
    for _ in range(2):
        with pytest.raises(StaleContextError):
            await other.save(if_unchanged=True)
    await other.load()
    assert [update.data for update in other.context_history] == ["one", "other"]
    await other.save(if_unchanged=True)
    await expect_reload(store, other)


async def test_a_plain_save_does_not_hide_that_others_saved(store: Store, user: str) -> None:
    one, other = await loaded(store, user), await loaded(store, user)
    one.add_context_update("message", "one")
    await one.save()
    other.add_context_update("message", "other")
    await other.save()
    other.add_context_update("message", "other again")
    with pytest.raises(StaleContextError):
        await other.save(if_unchanged=True)


async def test_a_context_deleted_under_its_writer_is_an_error_and_loses_nothing(store: Store, user: str) -> None:
    context = await loaded(store, user)
    fill(context, 3)
    await context.save()
    await store.delete(context.key)
    context.add_context_update("message", "unsaved")
    with pytest.raises(LostContextError):
        await context.save()
    assert await stored(store, context.key) == []
    await context.load()
    assert [update.data for update in context.context_history] == ["unsaved"]
    await context.save()
    assert await stored(store, context.key) == ["unsaved"]


async def test_an_edit_removes_and_appends_and_what_others_wrote_stays(store: Store, user: str) -> None:
    one, other = await loaded(store, user), None
    fill(one, 3)
    await one.save()
    other = await loaded(store, user)
    other.add_context_update("message", "other")
    await other.save()
    one.context_history[1].data = "edited"
    await one.save()
    # Rows get new seqs. A file is written as a whole, so there it stays in its place.
    in_rows = Feature.REVISIONS in store.features
    expected = ["m0", "other", "edited", "m2"] if in_rows else ["m0", "edited", "m2", "other"]
    assert await stored(store, one.key) == expected


async def test_a_context_that_gets_another_id_is_saved_whole_under_it(store: Store, user: str) -> None:
    context = await loaded(store, user)
    fill(context, 3)
    context.track_file_operation("a", "read")
    context.track_model_usage("m", "p", "x")
    context.metadata["k"] = 1
    await context.save()
    context.chat_id = "c2"
    context.add_context_update("message", "after")
    await context.save()
    await expect_reload(store, context)
    assert (await loaded(store, user, "c1")).context_history == context.context_history[:-1]
    context.context_history[0].data = "edited"
    context.file_tracker["a"]["state"] = "closed"
    await context.save()
    await expect_reload(store, context)


async def test_another_id_that_has_a_context_gets_what_is_in_memory_on_top(store: Store, user: str) -> None:
    other = await loaded(store, user, "c2")
    other.add_context_update("message", "other")
    await other.save()
    context = await loaded(store, user)
    fill(context, 2)
    await context.save()
    context.chat_id = "c2"
    await context.save()
    assert await stored(store, other.key) == ["other", "m0", "m1"]


# Reading a part.


async def test_a_limited_context_reaches_the_rest_and_changes_only_its_part(store: Store, user: str) -> None:
    context = await loaded(store, user)
    fill(context, 30)
    await context.save()
    part = await loaded(store, user, history_limit=5)
    assert [update.data for update in part.context_history] == [f"m{n}" for n in range(25, 30)]
    assert not part.history_complete
    assert [update.data async for update in part.earlier_updates()] == [f"m{n}" for n in range(24, -1, -1)]
    part.optimize_context(max_size=3)
    part.add_context_update("message", "new")
    await part.save()
    assert await stored(store, part.key) == [*(f"m{n}" for n in range(25)), "m29", "new"]
    assert len([update async for update in part.earlier_updates()]) == 25


async def test_a_complete_context_has_no_earlier_updates(store: Store, user: str) -> None:
    context = await loaded(store, user)
    fill(context, 3)
    await context.save()
    again = await loaded(store, user, history_limit=3)
    assert again.history_complete
    assert [update async for update in again.earlier_updates()] == []


async def test_a_context_in_use_is_found_under_its_key(store: Store, user: str) -> None:
    context = await loaded(store, user)
    assert context.key == ContextKey(user, "c1")
    assert context.is_new
    await context.save()
    assert not context.is_new


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


async def test_the_newest_that_are_left_are_found_behind_many_that_were_removed(store: Store, user: str) -> None:
    context = await loaded(store, user)
    fill(context, 3000)
    await context.save()
    left = context.context_history[5:105:2]
    context.context_history = left
    await context.save()
    for limit in (0, 1, 10, 49, 50, 51):
        part = await loaded(store, user, history_limit=limit)
        assert [update.data for update in part.context_history] == [
            update.data for update in left[50 - min(limit, 50) :]
        ]
        assert part.history_complete == (limit >= 50)
        assert len([update async for update in part.earlier_updates()]) == max(0, 50 - limit)
    for newest_first in (False, True):
        rows = [row async for row in store.updates(context.key, newest_first=newest_first)]
        assert [row.update.data for row in rows] == [update.data for update in left[:: -1 if newest_first else 1]]
