"""Earlier states: loading, restoring and forking them. Random programs are in `tests.chaos.programs`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable
from functools import partial
from typing import Any

import pytest

from taskctx_sql import ContextKey, SqlStore, Store, TaskContext
from taskctx_sql.errors import (
    ContextExistsError,
    ContextNotFoundError,
    InvalidArgumentError,
    NothingToUndoError,
    PastContextError,
    RevisionNotFoundError,
    StoreFailedError,
    UnsavedChangesError,
    UnsupportedByStoreError,
)
from taskctx_sql.maintenance import prune
from taskctx_sql.model import MISSING, Retention, Selection
from taskctx_sql.sql import load
from taskctx_sql.sql.plan import Plan, Step
from tests.conftest import DATABASES
from tests.support.contract import loaded, new_delta, stored
from tests.support.faults import FaultyStore


@pytest.fixture(params=DATABASES)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of store that keeps earlier states; a folder of files has a test of its own."""
    return str(request.param)


async def grown(store: Store, user: str, saves: int = 4) -> TaskContext:
    """A context with an update, a file and a model use in each of its revisions, and changing metadata."""
    context = await loaded(store, user)
    for number in range(1, saves + 1):
        context.add_context_update("message", number)
        context.track_file_operation(f"f{number % 2}", f"op{number}")
        context.track_model_usage(f"m{number}", "p", "x", cost=1.0)
        context.metadata["number"] = number
        context.metadata_toggles[f"t{number}"] = False
        await context.save()
    return context


def state(context: TaskContext) -> Any:
    return context.to_dict(), list(context.file_tracker), context.metadata, context.metadata_toggles


def messages(context: TaskContext) -> list[Any]:
    return [update.data for update in context.context_history if update.update_type == "message"]


async def unchanged(store: Store, key: ContextKey, refused: Awaitable[Any], error: type[Exception]) -> Exception:
    """The call is refused with this error, and the stored context is unchanged."""
    before = [row.seq for row in (await store.load(key)).updates], (await store.load(key)).revision
    with pytest.raises(error) as caught:
        await refused
    assert ([row.seq for row in (await store.load(key)).updates], (await store.load(key)).revision) == before
    return caught.value


# Loading.


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


# The revision log.


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


# Restoring and undoing.


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


# Retries and forks.


@pytest.mark.wide
@pytest.mark.parametrize("call", ["undo", "restore"])
async def test_an_operation_that_did_not_return_and_is_done_again_happens_once(
    store: Store, user: str, call: str
) -> None:
    async def operate(context: TaskContext) -> int:
        return await (context.undo() if call == "undo" else context.restore(2))

    for turns in range(40):
        context = await loaded(store, user, f"c{turns}")
        for data in "aabbc":
            context.add_context_update("message", data)
        await context.save()
        for size in (100, 2):
            context.optimize_context(size)
            await context.save()
        # Interrupted several times, each time a little later.
        for more in (0, 3):
            job = asyncio.create_task(operate(context))
            for _ in range(turns + more):
                await asyncio.sleep(0)
            done = job.done()
            job.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await job
            if not job.cancelled():
                break
        if job.cancelled():
            assert await operate(context) == context.revision
        listed = await context.revisions()
        assert sum(one.operation == call for one in listed) == 1
        assert context.revision == listed[0].revision
        assert (await loaded(store, user, f"c{turns}")).to_dict() == context.to_dict()
        # The next one is another one.
        await operate(context)
        assert sum(one.operation == call for one in await context.revisions()) == 2
        if done:
            break


async def test_an_operation_whose_result_could_not_be_loaded_is_done_again_once(store: SqlStore, user: str) -> None:
    class Away(FaultyStore):
        fails = False

        async def load(self, *arguments: Any, **more: Any) -> Any:
            if self.fails:
                raise StoreFailedError("load", self.database_url, "away")
            return await super().load(*arguments, **more)

    faulty = Away(store)
    context = await loaded(faulty, user)
    for data in "aabbc":
        context.add_context_update("message", data)
    await context.save()
    for size in (100, 2):
        context.optimize_context(size)
        await context.save()
    faulty.fails = True
    for _ in range(3):
        with pytest.raises(StoreFailedError):
            await context.undo()
    faulty.fails = False
    await context.undo()
    assert [one.operation for one in await context.revisions()].count("undo") == 1
    await context.undo()
    assert [one.operation for one in await context.revisions()].count("undo") == 2
    with pytest.raises(NothingToUndoError):
        await context.undo()
    assert await context.save() == context.revision


async def test_a_fork_starts_from_a_state_and_goes_its_own_way(store: Store, user: str) -> None:
    context = await grown(store, user)
    await context.load(revision=2)
    was = state(context)
    forked = await context.fork("other")
    assert state(forked)[1:] == was[1:]
    assert forked.to_dict() == was[0] | {"chat_id": "other"}
    forked.add_context_update("message", "mine")
    await forked.save()
    await context.load()
    assert messages(context) == [1, 2, 3, 4]
    assert messages(await loaded(store, user, "other")) == [1, 2, "mine"]
    first = (await forked.revisions())[-1]
    assert (first.operation, first.source_revision, first.source_chat_id) == ("fork", 2, "c1")
    assert messages(await context.fork("newest")) == [1, 2, 3, 4]


async def test_a_fork_onto_a_chat_that_is_there_is_refused(store: Store, user: str) -> None:
    context = await grown(store, user)
    other = await loaded(store, user, "other")
    other.add_context_update("message", "theirs")
    await other.save()
    for chat in ("other", "c1"):
        error = await unchanged(store, other.key, context.fork(chat), ContextExistsError)
        assert repr(chat) in str(error)
    assert await stored(store, other.key) == ["theirs"]


async def test_what_is_read_beside_a_delete_is_of_one_moment(store: SqlStore, user: str) -> None:
    key = ContextKey(user, "c1")
    until = time.monotonic() + 1.5
    torn: list[Any] = []

    async def writer() -> None:
        generation = 0
        while time.monotonic() < until:
            generation += 1
            context = TaskContext({"user_id": user, "chat_id": "c1"}, store=store)
            for _ in range(30):
                context.add_context_update("message", generation)
            context.metadata["generation"] = generation
            await context.save()
            await asyncio.sleep(0)
            await store.delete(key)

    def check(loaded: Any) -> None:
        generations = {row.update.data for row in loaded.updates}
        if loaded.revision and (len(loaded.updates) != 30 or generations != {loaded.metadata["generation"]}):
            torn.append((loaded.revision, len(loaded.updates), generations, loaded.metadata))

    async def reader() -> None:
        while time.monotonic() < until:
            check(await store.load(key))

    async def forker() -> None:
        number = 0
        while time.monotonic() < until:
            number += 1
            with contextlib.suppress(ContextNotFoundError, RevisionNotFoundError):
                check(await store.load(await store.fork(key, f"fork {number}")))

    async def lister() -> None:
        while time.monotonic() < until:
            with contextlib.suppress(ContextNotFoundError):
                found = [revision.revision for revision in await store.revisions(key)]
                if found != [1]:
                    torn.append(found)

    async def pager() -> None:
        while time.monotonic() < until:
            found = [row.update.data async for row in store.updates(key)]
            if len(found) not in (0, 30) or len(set(found)) > 1:
                torn.append(found)

    await asyncio.gather(writer(), reader(), reader(), forker(), lister(), pager())
    assert not torn


async def test_the_cost_of_a_model_use_counts_once(store: Store, user: str) -> None:
    assert isinstance(store, SqlStore)
    context = await grown(store, user)
    await context.restore(1)
    await context.restore(4)
    await context.undo()
    await context.fork("other")
    models = await store.reports.models(user_id=user)
    assert sum(one.calls for one in models) == 4
    assert sum(one.cost for one in models) == 4.0
    costs = {one.chat_id: one.cost for one in await store.reports.tasks(user_id=user)}
    assert costs == {"c1": 4.0, "other": 0.0}


# What was pruned.


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
