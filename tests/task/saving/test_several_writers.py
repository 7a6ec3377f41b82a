"""Several writers of one context keep each other's changes, or are told what they may not do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from taskctx_sql import ContextUpdate, Feature, Store, TaskContext
from taskctx_sql.errors import LostContextError, StaleContextError
from tests.support.contract import expect_reload, loaded, stored
from tests.task.saving.contexts import fill


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
