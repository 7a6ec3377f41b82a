"""The contract of stores: removing updates, the trackers, metadata and toggles."""

from __future__ import annotations

from taskctx_sql.model import ContextKey, ContextUpdate, FileChange, MappingChange
from taskctx_sql.stores import ContextStore, Feature
from taskctx_sql.testing.deltas import all_rows, delta_of, new_delta, stored
from taskctx_sql.testing.running import ContractPart


class Removing(ContractPart):
    """What leaves the history, and what stays."""

    async def test_removed_updates_leave_the_history(self, store: ContextStore, key: ContextKey) -> None:
        first = await store.save(new_delta(key, *"abcd"))
        seqs = [row.seq for row in await all_rows(store, key)]
        await store.save(new_delta(key, "e", base=first.base, removed_updates=[seqs[0], seqs[2]]))
        assert await stored(store, key) == ["b", "d", "e"]

    async def test_what_stays_keeps_its_seq(self, store: ContextStore, key: ContextKey) -> None:
        first = await store.save(new_delta(key, *"abcd"))
        rows = await all_rows(store, key)
        await store.save(new_delta(key, base=first.base, removed_updates=[rows[1].seq]))
        assert [row.seq for row in await all_rows(store, key)] == [rows[0].seq, rows[2].seq, rows[3].seq]

    async def test_all_updates_can_be_removed(self, store: ContextStore, key: ContextKey) -> None:
        first = await store.save(new_delta(key, *"abc"))
        await store.save(new_delta(key, base=first.base, removed_updates=[r.seq for r in await all_rows(store, key)]))
        assert await stored(store, key) == []
        assert await store.delete(key)

    async def test_removing_takes_only_what_was_named_when_others_saved_too(
        self, store: ContextStore, key: ContextKey
    ) -> None:
        first = await store.save(new_delta(key, *"abc"))
        mine = [row.seq for row in (await store.load(key)).updates]
        other = await store.load(key)
        await store.save(new_delta(key, "new", base=other.base, removed_updates=[other.updates[0].seq]))
        await store.save(new_delta(key, base=first.base, removed_updates=mine[1:2]))
        assert await stored(store, key) == ["c", "new"]

    async def test_removing_twice_is_harmless(self, store: ContextStore, key: ContextKey) -> None:
        first = await store.save(new_delta(key, *"abc"))
        seq = (await all_rows(store, key))[0].seq
        second = await store.save(new_delta(key, base=first.base, removed_updates=[seq]))
        await store.save(new_delta(key, "d", base=second.base, removed_updates=[seq]))
        assert await stored(store, key) == ["b", "c", "d"]


class Content(ContractPart):
    """What is kept beside the history, by the store's features."""

    async def test_tracked_files_are_kept_or_rebuilt(self, store: ContextStore, key: ContextKey) -> None:
        made = 1_700_000_000.5
        entry = {"operation": "read", "source": "user", "timestamp": made, "state": "active"}
        update = ContextUpdate(made, "file_operation", {"path": "a.txt", "operation": "read"}, {"source": "user"})
        await store.save(delta_of(key, update, files=[FileChange("a.txt", entry, None)]))
        assert [(path, found) for _, path, found in (await store.load(key)).files] == [("a.txt", entry)]

    async def test_model_uses_are_kept_or_rebuilt(self, store: ContextStore, key: ContextKey) -> None:
        entry = {
            "model_id": "gpt-4",
            "provider_id": "openai",
            "mode": "chat",
            "timestamp": 1_700_000_000.5,
            "cost": 0.25,
        }
        update = ContextUpdate(1_700_000_000.75, "model_usage", entry, {})
        await store.save(delta_of(key, update, models=[entry]))
        assert [found for _, found in (await store.load(key)).models] == [entry]

    async def test_tracked_files_and_models_without_updates_are_kept_where_trackers_are(
        self, store: ContextStore, key: ContextKey
    ) -> None:
        entry = {"operation": "read", "source": "user", "timestamp": 1.5, "state": "closed", "note": [1]}
        model = {"model_id": None, "extra": {"b": 1}}
        await store.save(new_delta(key, "x", files=[FileChange("a", entry, None)], models=[model]))
        loaded = await store.load(key)
        kept = Feature.TRACKERS in store.features
        assert [found for _, _, found in loaded.files] == ([entry] if kept else [])
        assert [found for _, found in loaded.models] == ([model] if kept else [])

    async def test_a_file_no_longer_tracked_leaves(self, store: ContextStore, key: ContextKey) -> None:
        entry = {"operation": "read", "source": "user", "timestamp": 1.5, "state": "active"}
        first = await store.save(
            new_delta(key, "x", files=[FileChange("a", entry, None), FileChange("b", entry, None)])
        )
        await store.save(new_delta(key, base=first.base, files=[FileChange("a", None, None, removed=True)]))
        kept = Feature.TRACKERS in store.features
        assert [path for _, path, _ in (await store.load(key)).files] == (["b"] if kept else [])

    async def test_metadata_is_kept_where_it_is(self, store: ContextStore, key: ContextKey) -> None:
        metadata = {"z": 1, "a": {"hidden": [1, 2]}}
        toggles = {"a": False}
        await store.save(
            new_delta(key, metadata=MappingChange(metadata, metadata, ()), toggles=MappingChange(toggles, toggles, ()))
        )
        loaded = await store.load(key)
        kept = Feature.METADATA in store.features
        assert loaded.metadata == (metadata if kept else None)
        assert loaded.toggles == (toggles if kept else None)

    async def test_writers_that_set_different_keys_of_the_metadata_both_keep_theirs(
        self, store: ContextStore, key: ContextKey
    ) -> None:
        start = await store.save(new_delta(key, metadata=MappingChange({"a": 1, "x": 1}, {"a": 1, "x": 1}, ())))
        await store.save(new_delta(key, base=start.base, metadata=MappingChange({"a": 2, "x": 1}, {"a": 2}, ())))
        await store.save(new_delta(key, base=start.base, metadata=MappingChange({"a": 1, "b": 3}, {"b": 3}, ["x"])))
        found = (await store.load(key)).metadata
        assert found == ({"a": 2, "b": 3} if Feature.METADATA in store.features else None)
