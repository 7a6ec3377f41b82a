"""Loading earlier states, and the log of revisions. Random programs are in `tests.chaos.programs`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from functools import partial
from typing import Any

import pytest

from taskctx_sql import ContextKey, SqlStore, Store, TaskContext
from taskctx_sql.errors import (
    ContextNotFoundError,
    InvalidArgumentError,
    NothingToUndoError,
    PastContextError,
    RevisionNotFoundError,
    UnsavedChangesError,
    UnsupportedByStoreError,
)
from taskctx_sql.maintenance import prune
from taskctx_sql.model import MISSING, Retention, Selection
from taskctx_sql.sql import load
from taskctx_sql.sql.plan import Plan, Step
from tests.sql.history.contexts import grown, messages, state, unchanged
from tests.support.contract import loaded, new_delta


async def test_every_revision_comes_back_exactly(store: Store, user: str) -> None:
    context = await loaded(store, user)
    states = {}
    for number in range(1, 6):
        context.add_context_update("message", {"n": number})
        context.track_file_operation(f"f{number % 3}", f"op{number}")
        context.track_model_usage(f"m{number}", "p", "x")
        context.metadata = {"number": number} if number % 2 else context.metadata
        context.metadata_toggles = {"number": number % 2 == 0}
        if number == 3:
            del context.context_history[1], context.file_tracker["f1"], context.model_tracker[0]
        if number == 4:
            context.context_history[0].data = "edited"
        states[await context.save()] = state(context)
    assert sorted(states) == [1, 2, 3, 4, 5]
    for revision, was in states.items():
        past = TaskContext({"user_id": user, "chat_id": "c1"}, store=store)
        await past.load(revision=revision)
        assert state(past) == was
        assert past.is_past
        assert past.revision == revision
    await past.load()
    assert state(past) == states[5]
    assert not past.is_past


async def test_a_time_finds_the_state_that_was_then(store: Store, user: str) -> None:
    key = ContextKey(user, "c1")
    times = []
    for number in range(3):
        await asyncio.sleep(0.002)
        await store.save(new_delta(key, number))
        times.append((await store.contexts(user))[0].updated_at)
    for place, at in enumerate(times):
        assert [row.update.data for row in (await store.load(key, at=at)).updates] == list(range(place + 1))
    between = (times[1] + times[2]) / 2
    assert (await store.load(key, at=between)).revision == 2
    assert (await store.load(key, at=time.time() + 1000)).revision == 3
    error = await unchanged(store, key, store.load(key, at=times[0] - 1), RevisionNotFoundError)
    assert "it began later" in str(error)


async def test_a_past_state_is_limited_and_chosen_like_a_present_one(store: Store, user: str) -> None:
    context = await grown(store, user, 6)
    key = context.key
    newest = await store.load(key, revision=4, history_limit=2)
    assert [row.seq for row in newest.updates] == [11, 12]
    assert newest.earlier
    chosen = await store.load(key, revision=4, types=["message"], max_chars=2)
    assert [row.update.data for row in chosen.updates] == [3, 4]
    assert chosen.earlier


async def test_the_past_cannot_be_saved(store: Store, user: str) -> None:
    context = await grown(store, user)
    await context.load(revision=2)
    context.add_context_update("message", "too late")
    await unchanged(store, context.key, context.save(), PastContextError)
    assert messages(context) == [1, 2, "too late"]
    # The current state can be saved again.
    await context.load()
    await context.save()
    assert messages(context) == [1, 2, 3, 4, "too late"]


async def test_leaving_a_context_that_shows_the_past_changes_nothing(store: Store, user: str) -> None:
    await grown(store, user)
    async with TaskContext({"user_id": user, "chat_id": "c1"}, store=store) as context:
        await context.load(revision=2)
        assert messages(context) == [1, 2]
    assert context.revision == 2
    assert (await store.load(ContextKey(user, "c1"))).revision == 4


async def test_a_past_state_needs_no_unsaved_changes(store: Store, user: str) -> None:
    context = await grown(store, user)
    context.add_context_update("message", "unsaved")
    for refused in (context.load(revision=2), context.restore(2), context.undo(), context.fork("other")):
        await unchanged(store, context.key, refused, UnsavedChangesError)
    assert messages(context)[-1] == "unsaved"
    assert await context.save() == 5


@pytest.mark.parametrize("revision", [5, 99, 2**62])
async def test_a_revision_that_is_not_there_is_named(store: Store, user: str, revision: int) -> None:
    context = await grown(store, user)
    for refused in (context.load(revision=revision), context.restore(revision), context.fork("new", revision=revision)):
        error = await unchanged(store, context.key, refused, RevisionNotFoundError)
        assert str(revision) in str(error)
        assert "revisions 1 to 4" in str(error)
    await unchanged(store, context.key, store.difference(context.key, 1, revision), RevisionNotFoundError)
    assert not (await store.load(ContextKey(user, "new"))).revision


async def test_what_is_no_revision_is_refused(store: Store, user: str) -> None:
    context = await grown(store, user)
    for bad in (0, -1, True, 1.5, "2", 2**63):
        calls: list[Awaitable[Any]] = [
            context.load(revision=bad),  # type: ignore[arg-type]
            context.restore(bad),  # type: ignore[arg-type]
            context.fork("new", revision=bad),  # type: ignore[arg-type]
            store.difference(context.key, 1, bad),  # type: ignore[arg-type]
            store.difference(context.key, bad, 1),  # type: ignore[arg-type]
            context.revisions(before=bad),  # type: ignore[arg-type]
        ]
        for refused in calls:
            error = await unchanged(store, context.key, refused, InvalidArgumentError)
            assert repr(bad) in str(error)
    for missing in (context.restore(None), store.difference(context.key, None, 1)):  # type: ignore[arg-type]
        await unchanged(store, context.key, missing, InvalidArgumentError)
    for wrong in ({"revision": 1, "at": 5.0}, {"at": float("nan")}, {"types": "message"}, {"max_chars": -1}):
        with pytest.raises(InvalidArgumentError):
            await store.load(context.key, **wrong)


async def test_a_context_that_is_not_there_has_no_past(store: Store, user: str) -> None:
    key = ContextKey(user, "nowhere")
    context = TaskContext({"user_id": user, "chat_id": "nowhere"}, store=store)
    for refused in (
        context.load(revision=1),
        context.restore(1),
        context.undo(),
        context.fork("new"),
        context.revisions(),
        store.difference(key, 1, 2),
    ):
        error = await unchanged(store, key, refused, ContextNotFoundError)
        assert "nowhere" in str(error)
    assert not await store.contexts(user)


async def test_a_folder_of_files_says_that_it_keeps_no_past(user: str, tmp_path: Any) -> None:
    context = TaskContext({"user_id": user, "chat_id": "c1"}, tmp_path)
    context.add_context_update("message", 1)
    await context.save()
    for refused in (
        context.load(revision=1),
        context.restore(1),
        context.undo(),
        context.fork("x"),
        context.revisions(),
    ):
        with pytest.raises(UnsupportedByStoreError, match="use a database"):
            await refused
    assert messages(context) == [1]


async def test_revisions_are_listed_with_time_run_and_counts(store: Store, user: str) -> None:
    before = time.time()
    context = await grown(store, user, 3)
    del context.context_history[0:2]
    context.context_history[0].metadata = {"edited": True}
    await context.save()
    listed = await context.revisions()
    assert [(one.revision, one.added, one.removed) for one in listed] == [(4, 7, 9), (3, 3, 0), (2, 3, 0), (1, 3, 0)]
    assert len({one.run_id for one in listed}) == 1
    assert [one.changed_metadata for one in listed] == [False, True, True, True]
    assert all(before - 1 < one.saved_at < time.time() + 1 for one in listed)
    pages = [await store.revisions(context.key, before=before, limit=2) for before in (None, 3, 1)]
    assert [[one.revision for one in page] for page in pages] == [[4, 3], [2, 1], []]
    assert pages[0] + pages[1] == listed  # type: ignore[operator]


async def test_a_difference_has_what_was_added_and_removed(store: Store, user: str) -> None:
    context = await grown(store, user, 2)
    context.context_history = [update for update in context.context_history if update.data != 1]
    del context.file_tracker["f1"]
    del context.metadata["number"]
    context.add_context_update("message", 3)
    await context.save()
    found = await store.difference(context.key, 1, 3)
    assert [row.update.data for row in found.removed] == [1]
    assert [row.update.data for row in found.added if row.update.update_type == "message"] == [2, 3]
    assert set(found.files) == {"f0", "f1"}
    assert found.files["f1"][1] is None
    assert found.files["f0"][0] is None
    assert [entry["model_id"] for entry in found.added_models] == ["m2"]
    assert not found.removed_models
    assert found.metadata == {"number": (1, MISSING)}
    assert found.toggles == {"t2": (MISSING, False)}
    assert not await store.difference(context.key, 2, 2)
    # The copies of a restore are no difference.
    await context.restore(1)
    assert not await store.difference(context.key, 1, 4)


async def test_a_difference_goes_by_type_and_takes_nan_for_equal(store: Store, user: str) -> None:
    nan = float("nan")
    context = await loaded(store, user)
    same = {"nan": nan, "deep": [{"nan": nan}], "order": {"a": 1, "b": 2}}
    typed: dict[Any, Any] = {"flag": 1, "deep flag": {"x": [0]}, "number": 1.0, 1: "key", "gone": None}
    metadata: dict[Any, Any] = context.metadata
    metadata |= same | typed
    context.file_tracker["f"] = {"size": nan}
    await context.save()
    metadata["order"] = {"b": 2, "a": 1}
    metadata.update({"flag": True, "deep flag": {"x": [False]}, "number": 1})
    del metadata["gone"], metadata[1]
    metadata[True] = "key"
    await context.save()
    found = await store.difference(context.key, 1, 2)
    assert {key: list(map(repr, pair)) for key, pair in found.metadata.items()} == {
        "flag": ["1", "True"],
        "deep flag": ["{'x': [0]}", "{'x': [False]}"],
        "number": ["1.0", "1"],
        "gone": ["None", "MISSING"],
        1: ["'key'", "'key'"],
    }
    assert not found.files
    assert not await store.difference(context.key, 2, 2)


async def test_a_state_that_was_pruned_is_refused_and_the_others_are_whole(store: Store, user: str) -> None:
    context = await grown(store, user, 2)
    del context.context_history[0]
    await context.save()
    await context.restore(1)
    moment = (await store.contexts(user))[0].updated_at
    await asyncio.sleep(0.002)
    del context.context_history[0]
    await context.save()
    pruned = await prune(store, Retention(removed_age=0), user_id=user, now=moment)
    assert pruned.rows["taskctx_updates"] > 0
    for revision in (1, 2, 3):
        for refused in (context.load(revision=revision), context.restore(revision)):
            error = await unchanged(store, context.key, refused, RevisionNotFoundError)
            assert "pruned" in str(error)
            assert "revisions 4 to 5" in str(error)
    await unchanged(store, context.key, context.fork("new", revision=3), RevisionNotFoundError)
    assert await store.contexts(user)
    assert not (await store.load(ContextKey(user, "new"))).revision
    await context.load(revision=4)
    assert messages(context) == [1]


async def test_a_state_that_is_pruned_while_it_is_read_is_refused(store: Store, user: str) -> None:
    assert isinstance(store, SqlStore)
    context = await grown(store, user, 2)
    del context.context_history[0]
    await context.save()
    now = (await store.contexts(user))[0].updated_at
    reading = load.load(store.engine_name, context.key, Selection(revision=1))
    step, pruned = next(reading), False
    with pytest.raises(RevisionNotFoundError):
        while True:
            assert isinstance(step, Step)
            found = await store.read("look", partial(_one, step), user_id=user)
            if not pruned and "taskctx_updates" in str(step.statement):
                await prune(store, Retention(removed_age=0), user_id=user, now=now)
                pruned = True
            step = reading.send(found)


def _one(step: Step) -> Plan[Any]:
    return (yield step)


async def test_what_was_pruned_is_not_brought_back_by_half(store: Store, user: str) -> None:
    context = await grown(store, user, 3)
    await context.truncate_context_history(context.context_history[3].timestamp)
    moment = (await store.contexts(user))[0].updated_at
    await prune(store, Retention(removed_age=0), user_id=user, now=moment)
    await unchanged(store, context.key, context.undo(), NothingToUndoError)
    await context.load()
    assert messages(context) == [1, 2]
