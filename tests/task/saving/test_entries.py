"""Entries of the history and the trackers: what a program may put there, and change deep within."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from taskctx_sql import ContextUpdate, Feature, Store
from taskctx_sql.errors import InvalidContextError
from tests.support.contract import expect_reload, loaded, stored


async def test_an_optimize_and_a_truncate_before_it_is_saved_are_two_revisions(store: Store, user: str) -> None:
    if Feature.REVISIONS not in store.features:
        return
    now = iter(range(100))
    context = await loaded(store, user, clock=lambda: float(next(now)))
    for data in ("a", "a", "b", "c"):
        context.add_context_update("m", data)
    await context.save()
    context.optimize_context(100)
    await context.truncate_context_history(2.0)
    assert [revision.operation for revision in await context.revisions()] == ["truncate", "optimize", None]
    await context.undo()
    assert [update.data for update in context.context_history] == ["a", "b", "c"]


class Lookalike:
    def __init__(self, data: object) -> None:
        self.timestamp, self.update_type, self.data = 1.0, "m", data
        self.metadata: dict[str, Any] = {}


async def test_an_object_with_the_four_fields_is_an_update(store: Store, user: str) -> None:
    context = await loaded(store, user)
    lookalikes: list[Any] = [Lookalike("a"), Lookalike("a"), Lookalike("b")]
    context.context_history.extend(lookalikes)
    assert len(context.to_dict()["context_history"]) == 3
    context.optimize_context(100)
    await context.save()
    assert all(isinstance(update, ContextUpdate) for update in context.context_history)
    context.context_history[0].data = "edited"
    await context.save()
    assert await stored(store, context.key) == ["edited", "b"]


class Expired:
    """An object of another library whose fields cannot be read any more."""

    timestamp, update_type, metadata = 1.0, "message", None

    @property
    def data(self) -> str:
        raise ValueError("it is not attached to a session")


@pytest.mark.parametrize("strange", ["a string", Expired()], ids=["text", "expired"])
async def test_an_entry_that_is_no_update_is_named_and_costs_nothing(store: Store, user: str, strange: Any) -> None:
    context = await loaded(store, user)
    context.add_context_update("m", "good")
    context.context_history.append(strange)
    context.metadata["k"] = 1
    with pytest.raises(InvalidContextError, match=r"context_history\[1\]"):
        await context.save()
    assert (await store.load(context.key)).revision == 0
    context.context_history.pop()
    await context.save()
    await expect_reload(store, context)


async def test_changes_deep_in_a_trackers_entry_are_noticed(store: Store, user: str) -> None:
    if Feature.TRACKERS not in store.features:
        return
    context = await loaded(store, user)
    context.model_tracker.append({"model_id": "mine", "usage": {"in": [1]}})
    context.track_model_usage("gpt", "openai", "chat")
    context.track_file_operation("f", "read")
    context.file_tracker["f"]["tags"] = []
    await context.save()
    for loads in (False, True):
        here = await loaded(store, user) if loads else context
        here.model_tracker[0]["usage"]["in"].append(2)
        here.file_tracker["f"]["tags"] += ["x"]
        assert here.has_unsaved_changes
        await here.save()
        await expect_reload(store, here)
    again = await loaded(store, user)
    assert {"model_id": "mine", "usage": {"in": [1, 2, 2]}} in again.model_tracker
    assert again.file_tracker["f"]["tags"] == ["x", "x"]


async def test_a_part_of_a_trackers_entry_can_be_held_from_save_to_save(store: Store, user: str) -> None:
    if Feature.TRACKERS not in store.features:
        return
    context = await loaded(store, user)
    context.track_model_usage("gpt", "openai", "chat")
    context.track_file_operation("f", "read")
    context.model_tracker[0]["usage"] = {"steps": [{"in": 0}]}
    context.file_tracker["f"]["tags"] = []
    await context.save()
    usage, tags = context.model_tracker[0]["usage"], context.file_tracker["f"]["tags"]
    step = usage["steps"][0]
    for number in range(1, 4):
        step["in"], usage["last"] = number, number
        tags.append(number)
        assert context.has_unsaved_changes
        await context.save()
        await expect_reload(store, context)
    again = await loaded(store, user)
    assert again.model_tracker[0]["usage"] == {"steps": [{"in": 3}], "last": 3}
    assert again.file_tracker["f"]["tags"] == [1, 2, 3]


@pytest.mark.filterwarnings("ignore::taskctx_sql.errors.LossyValueWarning")
async def test_an_entry_that_contains_itself_is_saved(store: Store, user: str) -> None:
    context = await loaded(store, user)
    entry: dict[str, Any] = {"model_id": "m"}
    entry["self"] = entry
    context.model_tracker.append(entry)
    await context.save()
    assert not context.has_unsaved_changes
    # One that is saved already has dicts of ours in it.
    context.model_tracker[0]["self"]["again"] = context.model_tracker[0]["self"]
    await context.save()
    assert not context.has_unsaved_changes
    assert context.to_dict()["model_tracker"][0]["model_id"] == "m"


async def test_a_new_file_that_is_tracked_again_during_its_save_is_where_memory_has_it(store: Store, user: str) -> None:
    if Feature.TRACKERS not in store.features:
        return
    context = await loaded(store, user)
    for path in "abc":
        context.track_file_operation(path, "read")
    saving = asyncio.ensure_future(context.save())
    await asyncio.sleep(0)
    entry = context.file_tracker.pop("a")
    del context.file_tracker["c"]
    context.file_tracker["a"] = entry
    await saving
    await context.save()
    assert list((await loaded(store, user)).file_tracker) == list(context.file_tracker) == ["b", "a"]
