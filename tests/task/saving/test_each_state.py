"""Every public call in every state of what is unsaved: what it does, and that nothing is lost or doubled by it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from taskctx_sql import Feature, Store, TaskContext
from taskctx_sql.errors import (
    NothingToUndoError,
    StoreClosedError,
    StoreFailedError,
    UnsavedChangesError,
    UnsupportedByStoreError,
)
from tests.support.contract import expect_reload, loaded, stored
from tests.task.saving.contexts import STATES, in_state

Call = Callable[[TaskContext], Awaitable[object]]


async def enter_and_leave(context: TaskContext) -> None:
    async with context:
        pass


async def optimize(context: TaskContext) -> None:
    context.optimize_context(10_000)


async def rename(context: TaskContext) -> None:
    context.chat_id = "renamed"
    await context.save()


CALLS: Final[dict[str, Call]] = {
    "save": lambda context: context.save(),
    "load": lambda context: context.load(),
    "load(revision)": lambda context: context.load(revision=1),
    "restore": lambda context: context.restore(1),
    "undo": lambda context: context.undo(),
    "fork": lambda context: context.fork("forked"),
    "optimize": optimize,
    "truncate": lambda context: context.truncate_context_history(2.0),
    "enter and leave": enter_and_leave,
    "rename": rename,
    "discard": lambda context: context.discard(),
}

# What a call is refused with. An undo in a clean state finds nothing to take back.
REFUSED: Final[dict[tuple[str, str], type[Exception]]] = {
    ("clean", "undo"): NothingToUndoError,
    **{
        (state, call): UnsavedChangesError
        for state in STATES[1:]
        for call in ("load(revision)", "restore", "undo", "fork")
    },
}

NEEDS_REVISIONS: Final = ("load(revision)", "restore", "undo", "fork")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("state", STATES)
async def test_each_call_is_defined_in_each_state(store: Store, user: str, state: str, call: str) -> None:
    _, context, expected = await in_state(store, user, state)
    before = context.to_dict()
    refusal = REFUSED.get((state, call))
    if call in NEEDS_REVISIONS and Feature.REVISIONS not in store.features and refusal is not UnsavedChangesError:
        refusal = UnsupportedByStoreError
    if refusal is not None:
        with pytest.raises((refusal, UnsupportedByStoreError)):
            await CALLS[call](context)
        assert context.to_dict() == before
    else:
        await CALLS[call](context)
    if context.is_past:
        await context.load()
    if call == "discard":
        expected = ["first", "second"] if state == "in doubt, written" else ["first"]
    if call == "truncate":
        expected = expected[:2]
    await context.save()
    assert not context.has_unsaved_changes
    assert [update.data for update in context.context_history] == expected
    await expect_reload(store, context)
    context.add_context_update("m", "last")
    await context.save()
    assert await stored(store, context.key) == [*expected, "last"]


@pytest.mark.parametrize("state", STATES)
async def test_after_its_store_is_closed_each_call_says_so_and_nothing_leaves_memory(
    store: Store, user: str, state: str
) -> None:
    _, context, _ = await in_state(store, user, state)
    await store.close()
    for name, call in CALLS.items():
        if name in ("optimize", "truncate", "rename"):
            continue
        before = (context.to_dict(), context.has_unsaved_changes)
        if (state, name) == ("clean", "save"):
            assert await context.save() == context.revision
            continue
        with pytest.raises((StoreClosedError, UnsavedChangesError, UnsupportedByStoreError)):
            await call(context)
        assert (context.to_dict(), context.has_unsaved_changes) == before
    copied = copy.deepcopy(context)
    assert copied.to_dict() == context.to_dict()


@pytest.mark.parametrize("call", [call for call in CALLS if call not in ("rename", "optimize", "discard")])
async def test_what_is_added_while_a_call_awaits_is_kept(store: Store, user: str, call: str) -> None:
    if call in NEEDS_REVISIONS and Feature.REVISIONS not in store.features:
        return
    context = await loaded(store, user)
    for data in ("a", "b", "b"):
        context.add_context_update("m", data)
        await context.save()
    if call == "undo":
        context.optimize_context(1_000)
        await context.save()

    async def add() -> None:
        for number in range(6):
            await asyncio.sleep(0)
            context.add_context_update("m", f"meanwhile {number}")
            context.metadata["meanwhile"] = number

    results = await asyncio.gather(CALLS[call](context), add(), return_exceptions=True)
    assert not isinstance(results[0], AssertionError | AttributeError | KeyError | TypeError)
    if context.is_past:
        await context.load()
    await context.save()
    history = [update.data for update in context.context_history]
    assert [data for data in history if str(data).startswith("meanwhile")] == [f"meanwhile {n}" for n in range(6)]
    await expect_reload(store, context)


async def test_changes_that_cancel_each_other_out_are_no_changes_after_a_save(store: Store, user: str) -> None:
    faulty, context, _ = await in_state(store, user, "clean")
    context.add_context_update("m", "never")
    del context.context_history[1]
    context.file_tracker["f"] = {"operation": "read"}
    del context.file_tracker["f"]
    context.model_tracker.append({"model_id": "m"})
    context.model_tracker.pop()
    await context.save()
    assert not context.has_unsaved_changes
    assert len(faulty.deltas) == 1
    context.add_context_update("m", "later")
    await context.save()
    assert await stored(store, context.key) == ["first", "later"]


async def test_what_is_unsaved_is_watched_once_however_often_it_is_loaded(store: Store, user: str) -> None:
    faulty, context, _ = await in_state(store, user, "unsaved")
    context.model_tracker.append({"model_id": "m"})
    faulty.faults = ["before"] * 20
    for _ in range(20):
        with pytest.raises(StoreFailedError):
            await context.save()
        await context.load()
    assert len(context.context_history[-1]._edit_logs) <= 1
    assert len(context._memory.models[-1]._listeners) <= 1
    context.context_history[-1].data = "edited"
    await context.save()
    context.context_history[-1].data = "edited again"
    await context.save()
    assert await stored(store, context.key) == ["first", "edited again"]
