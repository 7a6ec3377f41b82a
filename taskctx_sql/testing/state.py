"""The contract of stores: writing without loading, named values and labels, and taking updates out."""

from __future__ import annotations

import asyncio
import time
from typing import TypeGuard

import pytest

from taskctx_sql.errors import (
    InvalidArgumentError,
    LostContextError,
    StaleContextError,
    UnsupportedByStoreError,
)
from taskctx_sql.model import ContextKey, ContextUpdate, Run, StateChange, Write
from taskctx_sql.stores import ContextStore, Feature, StateStore, Store
from taskctx_sql.testing.deltas import new_delta, stored
from taskctx_sql.testing.running import ContractPart
from taskctx_sql.writer import ContextWriter


def keeps_state(store: ContextStore) -> TypeGuard[Store]:
    """Whether the store keeps named values; then it has the methods of `StateStore`."""
    if Feature.STATE in store.features:
        assert isinstance(store, StateStore)
        return True
    return False


async def values(store: StateStore, key: ContextKey, *names: str, **more: object) -> dict[str, object]:
    """Return named values by name; ``more`` are other arguments of `StateStore.state`."""
    return {entry.name: entry.value for entry in await store.state(key, *names, **more)}  # type: ignore[arg-type]


class Writing(ContractPart):
    """Writing to a context that was not loaded."""

    async def test_a_store_without_named_values_says_so(self, store: ContextStore, key: ContextKey) -> None:
        if keeps_state(store) or not isinstance(store, StateStore):
            return
        for call in (
            store.write(key, updates=[("message", "a")]),
            store.write_together([Write(key, title="T")]),
            store.state(key),
            store.label(key, title="T"),
            store.pop_update(key),
            store.clear_updates(key),
            ContextWriter(store, key).write(updates=[("message", "a")]),
        ):
            with pytest.raises(UnsupportedByStoreError):
                await call

    async def test_a_write_appends_to_what_is_there(self, store: ContextStore, key: ContextKey) -> None:
        if not keeps_state(store):
            return
        before = time.time()
        given = ContextUpdate(1.5, "message", "with a time of its own", {"x": 1})
        first = await store.write(key, updates=[("message", "a"), ("tool_call", {"b": 2}, {"group": "g"}), given])
        second = await store.write(key, updates=[("message", "c")])
        assert (first.revision, first.first_seq, second.revision, second.first_seq) == (1, 1, 2, 4)
        history = (await store.load(key)).history
        assert [(update.update_type, update.data, update.metadata) for update in history] == [
            *(("message", "a", {}), ("tool_call", {"b": 2}, {"group": "g"})),
            *(("message", "with a time of its own", {"x": 1}), ("message", "c", {})),
        ]
        assert history[2].timestamp == 1.5
        assert before - 1 <= history[0].timestamp <= time.time() + 1

    async def test_model_uses_come_back_equal_with_all_kinds_of_tokens(
        self, store: ContextStore, key: ContextKey
    ) -> None:
        if not keeps_state(store):
            return
        tokens = {"input_tokens": 9, "output_tokens": 8, "cached_read_tokens": 3, "cached_write_tokens": 2}
        use = {"model_id": "m", "provider_id": "p", "mode": "x", "timestamp": 1.5, **tokens}
        use |= {"reasoning_tokens": 4, "audio_tokens": 1, "cost": 0.5, "price_list": "prices 1", "duration": 2.5}
        await store.write(key, models=[use, {"duration": 1.0, "model_id": "n", "input_tokens": 1, "more": [1]}])
        (_, first), (_, second) = (await store.load(key)).models
        assert first == use
        assert list(first) == list(use)
        assert second == {
            **{"model_id": "n", "provider_id": None, "mode": None, "timestamp": second["timestamp"]},
            **{"input_tokens": 1, "duration": 1.0, "more": [1]},
        }

    async def test_a_write_is_refused_unless_the_context_is_at_the_revision(
        self, store: ContextStore, key: ContextKey
    ) -> None:
        if not keeps_state(store):
            return
        with pytest.raises(StaleContextError) as raised:
            await store.write(key, updates=[("message", "too early")], if_revision=3)
        assert (raised.value.expected, raised.value.found) == (3, 0)
        assert (await store.load(key)).revision == 0
        await store.write(key, updates=[("message", "a")], if_revision=0)
        for wrong in (0, 2):
            with pytest.raises(StaleContextError) as raised:
                await store.write(key, updates=[("message", "lost")], state={"a": 1}, if_revision=wrong)
            assert (raised.value.expected, raised.value.found) == (wrong, 1)
        assert (await store.write(key, updates=[("message", "b")], if_revision=1)).revision == 2
        assert (await stored(store, key), await store.state(key)) == (["a", "b"], [])

    async def test_of_writers_at_one_revision_only_one_succeeds(self, store: ContextStore, key: ContextKey) -> None:
        if not keeps_state(store):
            return
        for revision in (0, 1):
            tries = (store.write(key, updates=[("message", who)], if_revision=revision) for who in range(6))
            done = await asyncio.gather(*tries, return_exceptions=True)
            failed = [error for error in done if isinstance(error, BaseException)]
            assert [type(error) for error in failed] == [StaleContextError] * 5
        assert len(await stored(store, key)) == 2

    async def test_a_write_that_is_sent_twice_is_written_once(self, store: ContextStore, key: ContextKey) -> None:
        if not keeps_state(store):
            return
        for revision in (None, 0):
            run = Run(f"run of {revision}", 1, 1.0)
            one = ContextKey(key.user_id, f"{key.chat_id} {revision}")
            given = Write(one, updates=[("message", "a")], state={"n": 1}, if_revision=revision, run=run)
            first = await store.save(given.delta())
            assert (await store.save(given.delta())).revision == first.revision == 1
            assert len(await stored(store, one)) == 1

    async def test_updates_are_removed_by_their_seqs(self, store: ContextStore, key: ContextKey) -> None:
        if not keeps_state(store):
            return
        await store.write(key, updates=[("message", data) for data in "abcd"])
        # Those that are gone, or were never there, are no error, and are not counted.
        await store.write(key, remove_updates=[1, 3, 99], updates=[("message", "e")], if_revision=1)
        await store.write(key, remove_updates=[3, 2])
        assert await stored(store, key) == ["d", "e"]
        counted = [(revision.added, revision.removed) for revision in await store.revisions(key)]
        assert counted == [(0, 1), (1, 2), (4, 0)]
        assert [row.update.data for row in (await store.difference(key, 1, 2)).removed] == ["a", "c"]

    async def test_writes_to_several_contexts_are_all_done_or_none(
        self, store: ContextStore, key: ContextKey, user: str
    ) -> None:
        if not keeps_state(store):
            return
        keys = [key, ContextKey(user, "c2"), ContextKey(f"{user} 2", "c1")]
        done = await store.write_together([Write(one, updates=[("message", one.chat_id)]) for one in keys])
        assert [saved.revision for saved in done] == [1, 1, 1]
        assert [await stored(store, one) for one in keys] == [["c1"], ["c2"], ["c1"]]
        # The middle one is refused, so that one comes before it and one after it, in any order.
        refused = [Write(one, state={"a": 1}, if_revision=0 if one is keys[1] else 1) for one in keys]
        with pytest.raises(StaleContextError) as raised:
            await store.write_together(refused)
        assert raised.value.key == keys[1]
        assert [(await store.load(one)).revision for one in keys] == [1, 1, 1]
        assert [await store.state(one) for one in keys] == [[], [], []]
        with pytest.raises(InvalidArgumentError, match="one write for each context"):
            await store.write_together([Write(key, title="a"), Write(key, title="b")])
        assert await store.write_together([]) == []

    async def test_writes_that_cross_each_other_do_not_wait_forever(self, store: ContextStore, user: str) -> None:
        if not keeps_state(store):
            return
        keys = [ContextKey(user, str(number)) for number in range(6)]
        orders = [keys, keys[::-1], keys[3:] + keys[:3]] * 4
        await asyncio.gather(*(store.write_together([Write(one, state={"n": 1}) for one in some]) for some in orders))
        assert [(await store.load(one)).revision for one in keys] == [12] * 6


class Writers(ContractPart):
    """`ContextWriter`, which writes to a context again and again."""

    async def test_a_writer_writes_as_one_run(self, store: ContextStore, key: ContextKey) -> None:
        if not keeps_state(store):
            return
        writer = ContextWriter(store, key)
        assert (writer.revision, writer.run_id) == (None, None)
        await writer.end()
        assert (await store.load(key)).revision == 0
        await asyncio.gather(*(writer.write(updates=[("message", number)]) for number in range(5)))
        run_id = writer.run_id
        assert await stored(store, key) == list(range(5))
        await store.write(key, updates=[("message", "of another")])
        assert (await writer.write(updates=[("message", "after")], state={"n": 1})).first_seq == 7
        assert writer.revision == 7
        await writer.end("failed", "ValueError: broke")
        assert {revision.run_id for revision in await store.revisions(key)} >= {run_id}
        assert (await store.load(key)).revision == 7
        await writer.write(updates=[("message", "again")])
        assert writer.run_id != run_id

    async def test_a_writer_goes_on_after_a_write_that_was_refused(self, store: ContextStore, key: ContextKey) -> None:
        if not keeps_state(store):
            return
        writer = ContextWriter(store, key)
        await writer.write(updates=[("message", "a")])
        run_id = writer.run_id
        with pytest.raises(StaleContextError):
            await writer.write(updates=[("message", "b")], if_revision=5)
        assert (writer.revision, writer.run_id) == (1, run_id)
        await writer.write(updates=[("message", "c")], if_revision=1)
        assert writer.run_id == run_id
        assert await stored(store, key) == ["a", "c"]
        await store.delete(key)
        with pytest.raises(LostContextError):
            await writer.write(updates=[("message", "d")])
        await writer.write(updates=[("message", "e")])
        assert await stored(store, key) == ["e"]


class NamedValues(ContractPart):
    """Values by name beside the history, and labels."""

    async def test_values_are_set_read_and_removed_by_name(self, store: ContextStore, key: ContextKey) -> None:
        if not keeps_state(store):
            return
        assert await store.state(key) == []
        await store.write(key, state={"b": [1, {"x": None}], "a": "text", "gone": 1}, updates=[("message", "m")])
        saved = await store.write(key, state={"a": 2.5}, remove_state=["gone", "never there"])
        entries = await store.state(key)
        assert [(entry.name, entry.value, entry.revision) for entry in entries] == [
            *(("a", 2.5, saved.revision), ("b", [1, {"x": None}], saved.revision - 1)),
        ]
        assert entries[0].saved_at >= entries[1].saved_at
        assert await values(store, key, "b", "gone") == {"b": [1, {"x": None}]}
        assert await values(store, key, revision=1) == {"a": "text", "b": [1, {"x": None}], "gone": 1}
        # The later one of two counts.
        await store.save(new_delta(key, state=[StateChange("a", 1), StateChange("a", removed=True)]))
        assert await values(store, key) == {"b": [1, {"x": None}]}
        assert len(await stored(store, key)) == 1
        await store.delete(key)
        assert await store.state(key) == []

    async def test_names_are_ordered_and_bounded_by_their_bytes(self, store: ContextStore, key: ContextKey) -> None:
        if not keeps_state(store):
            return
        names = ["A", "Z", "_", "a", "a/1", "a/10", "a/2", "b", "\u00e9", "\ud7ff", "\ue000", "\uffff", "\U00010000"]
        await store.write(key, state=dict.fromkeys(reversed(names), 0))
        assert list(await values(store, key)) == names
        assert list(await values(store, key, newest_first=True, limit=3)) == names[:-4:-1]
        assert list(await values(store, key, prefix="a/")) == ["a/1", "a/10", "a/2"]
        assert list(await values(store, key, prefix="\ud7ff")) == ["\ud7ff"]
        assert list(await values(store, key, after="a/1", before="b")) == ["a/10", "a/2"]
        assert list(await values(store, key, prefix="a/", after="a/1", limit=1)) == ["a/10"]
        assert list(await values(store, key, limit=0)) == []

    async def test_of_writers_that_set_one_name_the_last_one_wins(self, store: ContextStore, key: ContextKey) -> None:
        if not keeps_state(store):
            return
        done = await asyncio.gather(*(store.write(key, state={"n": number}) for number in range(10)))
        (entry,) = await store.state(key)
        assert entry.revision == 10
        assert entry.value == [saved.revision for saved in done].index(10)
        assert [(await values(store, key, revision=saved.revision))["n"] for saved in done] == list(range(10))

    async def test_a_value_that_has_expired_is_not_read(self, store: ContextStore, key: ContextKey) -> None:
        if not keeps_state(store):
            return
        now = time.time()
        ages = {"past": now - 1, "future": now + 1000, "never": None}
        await store.write(key, state=[StateChange(name, 1, expires_at=at) for name, at in ages.items()])
        entries = await store.state(key)
        assert {entry.name: entry.expires_at for entry in entries} == {"future": now + 1000, "never": None}
        # Setting it again makes it new.
        await store.write(key, state={"past": 2})
        assert (await values(store, key))["past"] == 2

    async def test_labels_are_beside_the_values(self, store: ContextStore, key: ContextKey) -> None:
        if not keeps_state(store):
            return
        await store.write(key, title="A title", parent="p1", labels={"framework": "f"}, state={"title": 1})
        assert await values(store, key, kind="label") == {"framework": "f", "parent": "p1", "title": "A title"}
        revision = await store.label(key, title="Another", labels={"framework": None, "new": ""})
        assert revision == 2
        assert await values(store, key, kind="label") == {"new": "", "parent": "p1", "title": "Another"}
        assert await values(store, key) == {"title": 1}

    async def test_names_and_texts_that_cannot_be_kept_are_refused(self, store: ContextStore, key: ContextKey) -> None:
        if not keeps_state(store):
            return
        for bad in ("", "a\x00", "\ud800", "x" * 2001, "\u20ac" * 667, 1, None):
            with pytest.raises(InvalidArgumentError):
                await store.write(key, state={bad: 1})  # type: ignore[dict-item]
        for bad in ("x" * 256, "a\x00", 1):
            with pytest.raises(InvalidArgumentError):
                await store.write(key, labels={"name": bad})  # type: ignore[dict-item]
            with pytest.raises(InvalidArgumentError):
                await store.write(key, labels={bad: "text"})  # type: ignore[dict-item]
        for change in (StateChange("a", 1, expires_at="soon"), StateChange("a", 1, kind="other")):  # type: ignore[arg-type]
            with pytest.raises(InvalidArgumentError):
                await store.write(key, state=[change])
        assert (await store.load(key)).revision == 0
        longest = {"x" * 2000: 1, "\u20ac" * 666: 2, "\U0001f642" * 500: 3}
        await store.write(key, state=longest, labels={"\U0001f642" * 255: "\U0001f642" * 255})
        assert await values(store, key) == longest


class TakingOut(ContractPart):
    """Updates that are taken out of the history without loading it."""

    async def test_the_newest_update_is_taken_out_and_returned(self, store: ContextStore, key: ContextKey) -> None:
        if not keeps_state(store):
            return
        assert await store.pop_update(key) is None
        await store.write(key, updates=[("message", "a"), ("event", "b"), ("message", "c"), ("event", "d")])
        popped = await store.pop_update(key, types=["message"])
        assert popped is not None
        assert (popped.seq, popped.update.data) == (3, "c")
        assert [(await store.pop_update(key)).update.data for _ in range(3)] == ["d", "b", "a"]  # type: ignore[union-attr]
        assert await store.pop_update(key) is None
        # The record keeps them.
        assert [update.data for update in (await store.load(key, revision=1)).history] == ["a", "b", "c", "d"]

    async def test_each_update_is_returned_to_one_caller(self, store: ContextStore, key: ContextKey) -> None:
        if not keeps_state(store):
            return
        await store.write(key, updates=[("message", number) for number in range(5)])
        popped = await asyncio.gather(*(store.pop_update(key) for _ in range(7)))
        assert sorted(found.update.data for found in popped if found is not None) == list(range(5))
        assert popped.count(None) == 2

    async def test_all_updates_are_taken_out_and_an_undo_brings_them_back(
        self, store: ContextStore, key: ContextKey
    ) -> None:
        if not keeps_state(store):
            return
        assert await store.clear_updates(key) == 0
        await store.write(key, updates=[("message", "a"), ("event", "b"), ("message", "c")], state={"n": 1})
        assert await store.clear_updates(key, types=["message"]) == 2
        assert await stored(store, key) == ["b"]
        assert (await store.revisions(key, limit=1))[0].operation == "truncate"
        loaded = await store.load(key)
        await store.save(new_delta(key, base=loaded.base, operation="undo"))
        assert await stored(store, key) == ["a", "b", "c"]
        assert await store.clear_updates(key) == 3
        assert await stored(store, key) == []
        assert await values(store, key) == {"n": 1}
