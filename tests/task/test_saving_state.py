"""Every public call in every state of what is unsaved: what it does, and that nothing is lost or doubled by it."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from taskctx_sql import ContextUpdate, Feature, Store, TaskContext, limits
from taskctx_sql.context.saving_state import Saving, State
from taskctx_sql.errors import (
    InvalidContextError,
    LimitExceededError,
    NothingToUndoError,
    RevisionNotFoundError,
    SaveOrderError,
    StoreClosedError,
    StoreFailedError,
    UnsavedChangesError,
    UnsupportedByStoreError,
)
from taskctx_sql.model import Loaded
from tests.conftest import ON_CITUS, wide
from tests.support.contract import expect_reload, loaded, new_run, stored
from tests.support.faults import FaultyStore

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
STATES: Final = ("clean", "unsaved", "in doubt, written", "in doubt, not written")

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


@pytest.fixture(
    params=("json", "sqlite", "postgres", *wide("psycopg engine", "pgbouncer", "row-level security", *ON_CITUS))
)
def kind(request: pytest.FixtureRequest) -> str:
    """The stores that answer differently: what is unsaved is known to the context, not to the store."""
    return str(request.param)


async def in_state(store: Store, user: str, state: str) -> tuple[FaultyStore, TaskContext, list[str]]:
    """A context in a state, what is behind it, and what its history holds."""
    faulty, now = FaultyStore(store), iter(range(1, 1000))
    context = TaskContext({"user_id": user, "chat_id": "c1"}, store=faulty, clock=lambda: float(next(now)))
    context.add_context_update("m", "first")
    await context.save()
    expected = ["first"]
    if state != "clean":
        context.add_context_update("m", "second")
        context.metadata["k"] = 1
        expected.append("second")
    if state.startswith("in doubt"):
        faulty.faults = ["lost before" if "not written" in state else "lost after"]
        with pytest.raises(StoreFailedError):
            await context.save()
        assert context.has_unsaved_changes
    return faulty, context, expected


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


# A save in doubt goes again as it was.


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


# What is handed out is a token.


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


# Two operations before a save, and what only looks like ours.


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


# Copies.


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda context: pickle.loads(pickle.dumps(context))])
async def test_a_copy_is_a_context_without_a_store(
    store: Store, user: str, how: Callable[[TaskContext], TaskContext]
) -> None:
    context = await loaded(store, user)
    context.add_context_update("m", {"a": [1]})
    context.track_file_operation("f", "read")
    await context.save()
    copied = how(context)
    assert copied.to_dict() == context.to_dict()
    copied.add_context_update("m", "only in the copy")
    copied.optimize_context(10_000)
    copied.file_tracker["g"] = {"operation": "write"}
    await copied.save()
    assert "only in the copy" not in await stored(store, context.key)
    assert "g" not in context.file_tracker
    assert not context.has_unsaved_changes


class Named(TaskContext):
    """A program's own context, which is made in its own way."""

    def __init__(self, name: str, **given: Any) -> None:
        super().__init__({"chat_id": name}, **given)
        self.parts = [name]


COPIES = pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda context: pickle.loads(pickle.dumps(context))])


@COPIES
async def test_a_copy_has_what_a_program_added_to_the_context(
    store: Store, user: str, how: Callable[[Named], Named]
) -> None:
    context = Named("c1", store=store)
    context.user_id = user
    context.note = {"of": "the program"}  # type: ignore[attr-defined]
    await context.save()
    copied = how(context)
    assert vars(copied)["note"] == {"of": "the program"}
    assert (type(copied), copied.parts, copied.user_id) == (Named, ["c1"], user)
    copied.add_context_update("m", "only in the copy")
    assert await stored(store, context.key) == []


@pytest.mark.parametrize("how", [copy.deepcopy, lambda context: pickle.loads(pickle.dumps(context))])
def test_a_copy_of_what_contains_itself_contains_itself(how: Callable[[Any], Any]) -> None:
    context = TaskContext({}, database_url="sqlite://")
    context.metadata["context"] = context
    context.add_context_update("m", {})
    update = context.context_history[0]
    update.data["update"], update.data["context"] = update, context
    context.track_file_operation("f", "read")
    context.file_tracker["f"]["in"] = [context.file_tracker["f"]]
    context.track_model_usage("m", "p", "x")
    context.model_tracker[0]["in"] = {"itself": context.model_tracker[0]}
    copied = how(context)
    again = copied.context_history[0]
    assert copied.metadata["context"] is again.data["context"] is copied
    assert again.data["update"] is again
    assert [item["operation"] for item in copied.file_tracker["f"]["in"]] == ["read"]
    assert copied.model_tracker[0]["in"]["itself"]["mode"] == "x"
    again = how(context.context_history)[0]
    assert again.data["update"] is again
    assert how(context.file_tracker)["f"]["in"][0]["operation"] == "read"
    assert how(context.model_tracker)[0]["in"]["itself"]["mode"] == "x"
