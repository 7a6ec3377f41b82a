"""The contract of stores: programs that work on a `TaskContext`, alone and beside others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from taskctx_sql.errors import InvalidArgumentError, UnsupportedByStoreError
from taskctx_sql.model import ContextKey
from taskctx_sql.stores import ContextStore, Feature, RevisionStore
from taskctx_sql.task import TaskContext
from taskctx_sql.testing.deltas import new_delta, stored
from taskctx_sql.testing.running import ContractPart, OpenStore


class Programs(ContractPart):
    """What a program gets back, in the same process and from another store on the same data."""

    async def test_what_was_saved_is_there_when_the_store_is_opened_again(
        self, opener: OpenStore, key: ContextKey
    ) -> None:
        async with opener() as store:
            await store.save(new_delta(key, "a"))
        async with opener() as store:
            assert await stored(store, key) == ["a"]

    async def test_two_open_stores_see_what_the_other_saved(self, opener: OpenStore, key: ContextKey) -> None:
        async with opener() as one, opener() as other:
            await one.save(new_delta(key, "a"))
            await other.save(new_delta(key, "b"))
            assert await stored(one, key) == await stored(other, key) == ["a", "b"]

    async def test_a_context_loads_as_it_was_saved(self, store: ContextStore, key: ContextKey) -> None:
        context = TaskContext({**_data(key), "metadata": {"language": "en"}}, store=store)
        async with context:
            context.add_context_update("message", {"text": "Starting", "parts": (1, 2)})
            context.track_file_operation("a.txt", "read")
            context.track_model_usage("m", "p", "chat", input_tokens=3)
        again = await _loaded(store, key)
        assert again.context_history == context.context_history
        assert list(again.file_tracker) == ["a.txt"]
        assert [entry["model_id"] for entry in again.model_tracker] == ["m"]
        assert again.metadata == ({"language": "en"} if Feature.METADATA in store.features else {})

    async def test_edits_and_removals_in_memory_are_saved(self, store: ContextStore, key: ContextKey) -> None:
        async with TaskContext(_data(key), store=store) as context:
            for number in range(6):
                context.add_context_update("message", number)
            await context.save()
            context.context_history[2].data = "edited"
            del context.context_history[4]
        assert await stored(store, key) == [0, 1, "edited", 3, 5]

    async def test_what_was_left_out_can_be_read_later(self, store: ContextStore, key: ContextKey) -> None:
        await store.save(new_delta(key, *range(10)))
        context = await _loaded(store, key, history_limit=3)
        assert [update.data for update in context.context_history] == [7, 8, 9]
        assert [update.data async for update in context.earlier_updates()] == [6, 5, 4, 3, 2, 1, 0]

    async def test_an_edit_of_an_update_that_another_program_removed_is_kept_as_a_new_one(
        self, store: ContextStore, key: ContextKey
    ) -> None:
        await store.save(new_delta(key, *"abc"))
        one, other = await _loaded(store, key), await _loaded(store, key)
        del other.context_history[0]
        other.add_context_update("message", "other")
        await other.save()
        one.context_history[0].data = "edited"
        one.add_context_update("message", "one")
        await one.save()
        assert await stored(store, key) == ["b", "c", "other", "edited", "one"]

    async def test_a_cancelled_save_is_written_once_or_not_at_all(self, store: ContextStore, key: ContextKey) -> None:
        delta = new_delta(key, "a", base=(await store.load(key)).base)
        saving = asyncio.ensure_future(store.save(delta))
        await asyncio.sleep(0)
        saving.cancel()
        await asyncio.wait([saving])
        assert await stored(store, key) in ([], ["a"])
        await store.save(delta)
        assert await stored(store, key) == ["a"]


class Choosing(ContractPart):
    """Loads of the newest updates that fit."""

    async def test_the_newest_updates_that_fit_are_loaded(self, store: ContextStore, key: ContextKey) -> None:
        # A digit is one character of JSON, and a text of two is four.
        await store.save(new_delta(key, 1, "ab", 3, 4))
        for chars, expected in ((0, []), (1, [4]), (2, [3, 4]), (5, [3, 4]), (6, ["ab", 3, 4]), (7, [1, "ab", 3, 4])):
            loaded = await store.load(key, max_chars=chars)
            assert [update.data for update in loaded.history] == expected
            assert loaded.earlier == (len(expected) < 4)

    async def test_updates_of_some_types_are_loaded(self, store: ContextStore, key: ContextKey) -> None:
        context = await _loaded(store, key)
        for number, kind in enumerate(("message", "plan", "message", "note")):
            context.add_context_update(kind, number)
        await context.save()
        assert [update.data for update in (await store.load(key, types=["message"])).history] == [0, 2]
        assert [update.data for update in (await store.load(key, max_chars=2, keep_types=["plan"])).history] == [1, 3]

    async def test_a_group_is_loaded_as_a_whole_or_not_at_all(self, store: ContextStore, key: ContextKey) -> None:
        context = await _loaded(store, key)
        for number, group in enumerate((None, "g", None, "g")):
            context.add_context_update("message", number, {"group": group} if group else {})
        await context.save()
        assert [update.data for update in (await store.load(key, history_limit=1, max_chars=9)).history] == []
        assert [update.data for update in (await store.load(key, max_chars=2)).history] == [1, 3]

    async def test_a_wrong_selection_is_refused_by_name(self, store: ContextStore, key: ContextKey) -> None:
        for name, wrong in (("history_limit", -1), ("max_chars", "3"), ("revision", 0), ("at", "now"), ("types", "a")):
            wanted: dict[str, Any] = {name: wrong}
            with pytest.raises(InvalidArgumentError, match=name):
                await store.load(key, **wanted)


class EarlierStates(ContractPart):
    """Revisions, where the store keeps them, and the error that says so where it does not."""

    async def test_an_earlier_state_is_loaded_or_unsupported(self, store: ContextStore, key: ContextKey) -> None:
        first = await store.save(new_delta(key, "a"))
        await store.save(new_delta(key, "b", base=first.base))
        for earlier in ({"revision": 1}, {"at": 1.0}):
            if Feature.REVISIONS not in store.features:
                with pytest.raises(UnsupportedByStoreError):
                    await store.load(key, **earlier)
        if Feature.REVISIONS in store.features:
            assert [update.data for update in (await store.load(key, revision=1)).history] == ["a"]

    async def test_a_store_with_revisions_has_their_methods(self, store: ContextStore, key: ContextKey) -> None:
        if Feature.REVISIONS in store.features:
            assert isinstance(store, RevisionStore)
            first = await store.save(new_delta(key, "a"))
            await store.save(new_delta(key, "b", base=first.base))
            assert [revision.revision for revision in await store.revisions(key)] == [2, 1]
            assert [row.update.data for row in (await store.difference(key, 1, 2)).added] == ["b"]
            forked = await store.fork(key, "forked", revision=1)
            assert await stored(store, forked) == ["a"]
        else:
            context = await _loaded(store, key)
            await context.save()
            for call in (context.revisions(), context.fork("c2"), context.restore(1), context.undo()):
                with pytest.raises(UnsupportedByStoreError):
                    await call


def _data(key: ContextKey) -> dict[str, Any]:
    return {"user_id": key.user_id, "chat_id": key.chat_id}


async def _loaded(store: ContextStore, key: ContextKey, **more: Any) -> TaskContext:
    context = TaskContext(_data(key), store=store, **more)
    await context.load()
    return context
