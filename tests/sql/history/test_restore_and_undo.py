"""Restoring an earlier state, and undoing what was done, beside other writers."""

from __future__ import annotations

import pytest

from taskctx_sql import Store
from taskctx_sql.errors import NothingToUndoError, StoreFailedError
from tests.sql.history.contexts import grown, messages, state, unchanged
from tests.support.contract import loaded
from tests.support.faults import FaultyStore


async def test_a_restore_is_a_new_revision_and_loses_nothing(store: Store, user: str) -> None:
    context = await grown(store, user)
    await context.load(revision=2)
    was = state(context)
    await context.load()
    assert await context.restore(2) == 5
    assert state(context) == was
    assert state(await loaded(store, user)) == was
    for revision, expected in ((4, [1, 2, 3, 4]), (5, [1, 2])):
        await context.load(revision=revision)
        assert messages(context) == expected
    newest = (await context.revisions())[0]
    assert (newest.operation, newest.source_revision, newest.added, newest.removed) == ("restore", 2, 0, 6)
    # Forward again, which brings rows back, in their old order.
    await context.load()
    await context.restore(4)
    context.add_context_update("message", 5)
    await context.save()
    assert messages(context) == [1, 2, 3, 4, 5]
    assert [row.seq for row in (await store.load(context.key)).updates] == list(range(1, 7)) + list(range(13, 20))


async def test_a_restore_of_the_past_state_that_is_loaded(store: Store, user: str) -> None:
    context = await grown(store, user)
    await context.load(revision=3)
    await context.restore(3)
    context.add_context_update("message", "on")
    await context.save()
    assert messages(context) == [1, 2, 3, "on"]


async def test_others_who_save_meanwhile_lose_nothing(store: Store, user: str) -> None:
    context = await grown(store, user)
    other = await loaded(store, user)
    other.add_context_update("message", "other")
    await context.restore(2)
    await other.save()
    await other.load()
    assert messages(other) == [1, 2, "other"]


async def test_what_another_writer_removes_goes_although_a_restore_copied_it(store: Store, user: str) -> None:
    context = await grown(store, user)
    del context.context_history[0]
    await context.save()
    other = await loaded(store, user)
    # All that follows the first entry gets new seqs.
    await context.restore(4)
    other.context_history = [update for update in other.context_history if update.data != 2]
    del other.model_tracker[0]
    next(update for update in other.context_history if update.data == 4).data = "edited"
    await other.save()
    await context.load()
    assert messages(context) == [1, 3, "edited"]
    assert [entry["model_id"] for entry in context.model_tracker] == ["m2", "m3", "m4"]


async def test_an_optimize_is_a_revision_of_its_own_and_can_be_undone(store: Store, user: str) -> None:
    context = await loaded(store, user)
    for number in (1, 2, 2, 3):
        context.add_context_update("message", number)
    await context.save()
    context.add_context_update("message", 4)
    plan = context.optimize_context(3, dry_run=True)
    assert [(dropped.update.data, dropped.reason) for dropped in plan.dropped] == [(1, "over size"), (2, "duplicate")]
    assert len(context.context_history) == 5
    assert bool(plan)
    assert context.optimize_context(3)
    # A read of the store leaves what is unsaved.
    await context.load()
    await context.save()
    listed = await context.revisions()
    assert [(one.operation, one.added, one.removed) for one in listed] == [
        ("optimize", 0, 2),
        (None, 1, 0),
        (None, 4, 0),
    ]
    await context.load(revision=2)
    assert messages(context) == [1, 2, 2, 3, 4]
    await context.load()
    assert messages(context) == [2, 3, 4]
    context.add_context_update("message", 5)
    await context.save()
    await context.undo()
    assert messages(context) == [1, 2, 2, 3, 4, 5]
    await unchanged(store, context.key, context.undo(), NothingToUndoError)


async def test_undo_goes_back_step_by_step(store: Store, user: str) -> None:
    context = await grown(store, user, 4)
    states = [state(context)]
    await context.restore(3)
    states.append(state(context))
    await context.truncate_context_history(context.context_history[3].timestamp)
    states.append(state(context))
    await context.restore(1)
    for expected in reversed(states):
        await context.undo()
        assert state(context) == expected == state(await loaded(store, user))
    await unchanged(store, context.key, context.undo(), NothingToUndoError)


async def test_undo_keeps_what_was_done_since(store: Store, user: str) -> None:
    context = await grown(store, user, 4)
    context.file_tracker["f9"] = {"operation": "gone"}
    context.metadata["before"] = True
    await context.save()
    was = state(context)
    await context.restore(2)
    context.add_context_update("message", "since")
    context.track_file_operation("f0", "since")
    context.track_model_usage("since", "p", "x")
    await context.save()
    await context.undo()
    assert messages(context) == [1, 2, 3, 4, "since"]
    files = {path: entry["operation"] for path, entry in context.file_tracker.items()}
    # Of the two that the restore changed, one was not touched since.
    assert files == {"f1": "op3", "f0": "since", "f9": "gone"}
    assert [entry["model_id"] for entry in context.model_tracker] == ["m1", "m2", "m3", "m4", "since"]
    assert (context.metadata, context.metadata_toggles) == was[2:]
    # Keys of the metadata that were changed since stay, and the others come back.
    await context.restore(2)
    context.metadata["mine"] = True
    await context.save()
    await context.undo()
    assert context.metadata == {"number": 4, "before": True, "mine": True}
    await context.restore(2)
    context.metadata["number"] = "changed"
    await context.save()
    await context.undo()
    assert context.metadata == {"number": "changed", "before": True, "mine": True}


async def test_undo_after_an_edit_brings_back_in_order(store: Store, user: str) -> None:
    context = await grown(store, user, 4)
    await context.truncate_context_history(context.context_history[5].timestamp)
    # All of it is written again.
    context.context_history[0].data = "edited"
    await context.save()
    context.add_context_update("message", "since")
    await context.save()
    await context.undo()
    assert messages(context) == ["edited", 2, 3, 4, "since"]
    assert state(context) == state(await loaded(store, user))
    await context.restore(4)
    assert messages(context) == [1, 2, 3, 4]
    await context.undo()
    assert messages(context) == ["edited", 2, 3, 4, "since"]


async def test_undo_brings_nothing_back_that_went_since(store: Store, user: str) -> None:
    context = await grown(store, user, 3)
    del context.context_history[0]
    await context.save()
    # All that follows the first entry is written again, and a file gets an older version.
    await context.restore(2)
    del context.file_tracker["f1"], context.model_tracker[0]
    context.context_history = [update for update in context.context_history if update.data != 2]
    await context.save()
    await context.undo()
    assert messages(context) == [3]
    # Copies that are still there stay.
    kinds = [update.update_type for update in context.context_history]
    assert kinds == ["file_operation", "model_usage"] * 2 + ["message", "file_operation", "model_usage"]
    assert list(context.file_tracker) == ["f0"]
    assert [entry["model_id"] for entry in context.model_tracker] == ["m2", "m3"]


async def test_a_restore_whose_answer_is_lost_happens_once(store: Store, user: str) -> None:
    await grown(store, user)
    faulty = FaultyStore(store)
    context = await loaded(faulty, user)
    for fault, revision in (("lost after", 5), ("lost before", 6)):
        faulty.faults = [fault]
        with pytest.raises(StoreFailedError):
            await context.restore(2)
        # What it made current is in memory, too, when a save has settled it.
        context.add_context_update("message", "after")
        await context.save()
        assert messages(context)[:2] == [1, 2]
        assert messages(context)[-1] == "after"
        restores = [one for one in await context.revisions() if one.operation == "restore"]
        assert len(restores) == revision - 4
        assert state(await loaded(store, user)) == state(context)
