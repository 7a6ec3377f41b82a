"""A save in doubt goes again as it was, and what is discarded stays away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from taskctx_sql import Feature, Store, TaskContext, limits
from taskctx_sql.context.saving_state import Saving, State
from taskctx_sql.errors import (
    LimitExceededError,
    NothingToUndoError,
    RevisionNotFoundError,
    SaveOrderError,
    StoreFailedError,
    UnsupportedByStoreError,
)
from taskctx_sql.model import Loaded
from tests.support.contract import expect_reload, loaded, new_run, stored
from tests.support.faults import FaultyStore
from tests.task.saving.contexts import STATES, in_state


@pytest.mark.parametrize("is_stored", [False, True], ids=["never saved", "deleted"])
async def test_discarding_what_the_store_does_not_have_leaves_what_the_context_was_made_with(
    store: Store, user: str, is_stored: bool
) -> None:
    if Feature.METADATA not in store.features:
        return
    data = {"user_id": user, "chat_id": "c", "metadata": {"given": 1}, "metadata_toggles": {"given": True}}
    context = TaskContext(data, store=store)
    context.metadata["stored"] = 2
    if is_stored:
        await context.save()
        await store.delete(context.key)
    context.metadata["unsaved"] = 3
    del context.metadata_toggles["given"]
    await context.discard()
    assert (context.metadata, context.metadata_toggles) == ({"given": 1}, {"given": True})
    await context.save()
    await expect_reload(store, context)


@pytest.mark.parametrize("state", STATES[2:])
async def test_a_save_in_doubt_is_settled_whatever_became_of_its_update(
    store: Store, user: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, context, _ = await in_state(store, user, state)
    with monkeypatch.context() as patch:
        patch.setattr(limits, "MAX_VALUE_CHARACTERS", 100)
        context.context_history[-1].data = "x" * 200
        with pytest.raises(LimitExceededError):
            await context.save()
    context.context_history[-1].data = "mended"
    context.metadata["k"] = 2
    context.add_context_update("m", "new")
    await context.save()
    assert await stored(store, context.key) == ["first", "mended", "new"]
    await expect_reload(store, context)


@pytest.mark.parametrize("state", STATES[2:])
async def test_an_edit_or_a_removal_beside_a_save_in_doubt_is_unsaved(store: Store, user: str, state: str) -> None:
    _, context, _ = await in_state(store, user, state)
    context.context_history[0].data = "edited"
    del context.context_history[1]
    assert context.has_unsaved_changes
    await context.save()
    assert await stored(store, context.key) == ["edited"]


async def test_after_discarding_a_save_in_doubt_the_next_save_is_not_taken_for_it(store: Store, user: str) -> None:
    for state in STATES[2:]:
        _, context, _ = await in_state(store, f"{user}{state}", state)
        await context.discard()
        context.add_context_update("m", "later")
        await context.save()
        assert (await stored(store, context.key))[-1] == "later"
        await expect_reload(store, context)


async def test_a_copy_of_a_discarded_save_that_arrives_late_writes_nothing(store: Store, user: str) -> None:
    faulty, context, _ = await in_state(store, user, "in doubt, not written")
    await context.discard()
    await store.save(faulty.deltas[1])
    assert await stored(store, context.key) == ["first"]


@pytest.mark.parametrize("fault", ["lost before", "lost after"])
async def test_an_edit_on_its_way_or_in_doubt_counts_as_unsaved(store: Store, user: str, fault: str) -> None:
    faulty, context, _ = await in_state(store, user, "clean")
    context.context_history[0].data = "edited"
    faulty.faults = [fault]
    saving = asyncio.ensure_future(context.save())
    await asyncio.sleep(0)
    assert context.has_unsaved_changes
    with pytest.raises(StoreFailedError):
        await saving
    assert context.has_unsaved_changes
    await context.save()
    assert not context.has_unsaved_changes
    assert await stored(store, context.key) == ["edited"]


async def test_discarding_a_first_save_in_doubt_makes_nothing(store: Store, user: str) -> None:
    faulty = FaultyStore(store)
    context = TaskContext({"user_id": user, "chat_id": "c1", "metadata": {"a": 1}}, store=faulty)
    context.add_context_update("m", "first")
    faulty.faults = ["lost before"]
    with pytest.raises(StoreFailedError):
        await context.save()
    await context.discard()
    assert context.context_history == []
    assert context.metadata == {"a": 1}
    assert (await store.load(context.key)).revision == 0
    context.add_context_update("m", "another")
    await context.save()
    assert await stored(store, context.key) == ["another"]


async def test_a_context_without_a_store_has_nothing_to_go_back_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIECS_ENABLE_PERSISTENCE", "false")
    context = TaskContext({})
    context.add_context_update("m", 1)
    with pytest.raises(UnsupportedByStoreError):
        await context.discard()
    assert len(context.context_history) == 1


@pytest.mark.parametrize("fault", ["lost before", "lost after"])
@pytest.mark.parametrize("operation", ["undo", "restore"])
async def test_an_operation_in_doubt_that_is_impossible_keeps_nothing_from_being_saved(
    store: Store, user: str, fault: str, operation: str
) -> None:
    faulty, context, _ = await in_state(store, user, "clean")
    faulty.faults = [fault]
    with pytest.raises((StoreFailedError, NothingToUndoError, RevisionNotFoundError, UnsupportedByStoreError)):
        await (context.undo() if operation == "undo" else context.restore(99))
    # A store without revisions was not asked.
    faulty.faults = []
    context.add_context_update("m", "later")
    await context.save()
    assert await stored(store, context.key) == ["first", "later"]
    assert not context.has_unsaved_changes


async def test_an_outcome_of_something_else_is_refused_and_changes_nothing(store: Store, user: str) -> None:
    context, other = await loaded(store, user), await loaded(store, user, "c2")
    for each in (context, other):
        each.add_context_update("m", 1)
    here = context._unsaved
    handout, foreign = (each._unsaved.hand_out(new_run(), 0.0, if_unchanged=False) for each in (context, other))
    wrong_calls: list[Callable[[], object]] = [
        lambda: here.abandon(foreign),
        lambda: here.hand_out(new_run(), 0.0, if_unchanged=False),
        lambda: here.discard(Loaded(0, None)),
        lambda: here.saving.reloaded(),
        lambda: here.saving.send_again(handout),
    ]
    for wrong in wrong_calls:
        with pytest.raises(SaveOrderError):
            wrong()
    assert here.saving.state(has_changes=True) is State.SAVING
    here.abandon(handout)
    with pytest.raises(SaveOrderError):
        here.abandon(handout)
    await context.save()
    assert await stored(store, context.key) == [1]


def test_the_states_are_distinguished() -> None:
    saving = Saving()
    assert saving.state(has_changes=False) is State.CLEAN
    assert saving.state(has_changes=True) is State.UNSAVED
    saving.must_reload = True
    assert saving.state(has_changes=True) is State.TO_BE_RELOADED
