"""The contract of stores: loading, and reading page by page."""

from __future__ import annotations

import pytest

from taskctx_sql.model import ContextKey, ContextUpdate
from taskctx_sql.stores import ContextStore
from taskctx_sql.testing.deltas import all_rows, delta_of, new_delta, stored
from taskctx_sql.testing.running import ContractPart


class Loading(ContractPart):
    """What a load returns."""

    async def test_a_context_that_is_not_there_loads_as_nothing(self, store: ContextStore, key: ContextKey) -> None:
        loaded = await store.load(key)
        assert loaded.revision == 0
        assert not loaded.updates
        assert not loaded.earlier
        assert not loaded.files
        assert not loaded.models

    async def test_loading_does_not_make_a_context(self, store: ContextStore, key: ContextKey) -> None:
        await store.load(key)
        assert not await store.delete(key)

    async def test_an_update_comes_back_as_it_was(self, store: ContextStore, key: ContextKey) -> None:
        update = ContextUpdate(1_700_000_000.123456, "message", {"b": [1, 2.5, None], "a": "é"}, {"source": "user"})
        await store.save(delta_of(key, update))
        assert [row.update for row in (await store.load(key)).updates] == [update]

    async def test_what_memory_does_to_data_afterwards_does_not_reach_the_store(
        self, store: ContextStore, key: ContextKey
    ) -> None:
        data = {"parts": [1]}
        await store.save(new_delta(key, data))
        data["parts"].append(2)
        (await store.load(key)).history[0].data["parts"].append(3)
        assert await stored(store, key) == [{"parts": [1]}]

    async def test_the_order_of_keys_in_data_is_kept(self, store: ContextStore, key: ContextKey) -> None:
        await store.save(new_delta(key, {"z": 1, "a": 2, "m": {"y": 1, "b": 2}}))
        (data,) = await stored(store, key)
        assert list(data) == ["z", "a", "m"]
        assert list(data["m"]) == ["y", "b"]

    async def test_updates_load_in_the_order_of_their_saving_whatever_their_clocks_say(
        self, store: ContextStore, key: ContextKey
    ) -> None:
        for timestamp in (300.0, 100.0, 200.0):
            await store.save(delta_of(key, ContextUpdate(timestamp, "message", timestamp, {})))
        assert await stored(store, key) == [300.0, 100.0, 200.0]

    async def test_seqs_rise_by_one_without_a_gap(self, store: ContextStore, key: ContextKey) -> None:
        for size in (1, 3, 2):
            await store.save(new_delta(key, *range(size)))
        rows = await all_rows(store, key)
        assert [row.seq for row in rows] == list(range(rows[0].seq, rows[0].seq + 6))

    async def test_a_limit_loads_the_newest_updates_in_order(self, store: ContextStore, key: ContextKey) -> None:
        await store.save(new_delta(key, *range(10)))
        loaded = await store.load(key, history_limit=3)
        assert [row.update.data for row in loaded.updates] == [7, 8, 9]
        assert loaded.earlier

    @pytest.mark.parametrize("limit", [10, 11, 1000])
    async def test_a_limit_that_all_updates_fit_into_leaves_nothing_out(
        self, store: ContextStore, key: ContextKey, limit: int
    ) -> None:
        await store.save(new_delta(key, *range(10)))
        loaded = await store.load(key, history_limit=limit)
        assert len(loaded.updates) == 10
        assert not loaded.earlier

    async def test_a_limit_of_zero_loads_no_updates(self, store: ContextStore, key: ContextKey) -> None:
        await store.save(new_delta(key, 1))
        loaded = await store.load(key, history_limit=0)
        assert not loaded.updates
        assert loaded.earlier
        assert loaded.revision > 0


class Reading(ContractPart):
    """What reading page by page returns."""

    async def test_all_updates_can_be_read_in_order(self, store: ContextStore, key: ContextKey) -> None:
        await store.save(new_delta(key, *range(1200)))
        assert [row.update.data for row in await all_rows(store, key)] == list(range(1200))

    async def test_all_updates_can_be_read_newest_first(self, store: ContextStore, key: ContextKey) -> None:
        await store.save(new_delta(key, *range(1200)))
        rows = await all_rows(store, key, newest_first=True)
        assert [row.update.data for row in rows] == list(range(1199, -1, -1))

    async def test_reading_goes_on_after_a_seq(self, store: ContextStore, key: ContextKey) -> None:
        await store.save(new_delta(key, *"abcde"))
        rows = await all_rows(store, key)
        assert [row.update.data for row in await all_rows(store, key, after=rows[1].seq)] == ["c", "d", "e"]

    async def test_reading_ends_before_a_seq(self, store: ContextStore, key: ContextKey) -> None:
        await store.save(new_delta(key, *"abcde"))
        rows = await all_rows(store, key)
        earlier = await all_rows(store, key, before=rows[3].seq, newest_first=True)
        assert [row.update.data for row in earlier] == ["c", "b", "a"]

    async def test_only_so_many_updates_of_some_types_are_read(self, store: ContextStore, key: ContextKey) -> None:
        kinds = ("message", "tool_call", "message", "event", "message")
        written = [ContextUpdate(1.0, kind, place, {}) for place, kind in enumerate(kinds)]
        await store.save(delta_of(key, *written))
        first = (await all_rows(store, key, limit=1))[0]
        found = [
            await all_rows(store, key, types=["message"], limit=2, newest_first=True),
            await all_rows(store, key, types=("event", "message"), after=first.seq, limit=10),
            await all_rows(store, key, types=[]),
            await all_rows(store, key, limit=0),
        ]
        assert [[row.update.data for row in rows] for rows in found] == [[4, 2], [2, 3, 4], [], []]

    async def test_a_limited_load_and_the_pages_before_it_are_the_whole_history(
        self, store: ContextStore, key: ContextKey
    ) -> None:
        await store.save(new_delta(key, *range(700)))
        newest = (await store.load(key, history_limit=50)).updates
        before = await all_rows(store, key, before=newest[0].seq)
        assert [row.update.data for row in [*before, *newest]] == list(range(700))

    async def test_nothing_is_read_of_a_context_that_is_not_there(self, store: ContextStore, key: ContextKey) -> None:
        assert await all_rows(store, key) == []

    async def test_reading_may_stop_in_the_middle(self, store: ContextStore, key: ContextKey) -> None:
        await store.save(new_delta(key, *range(1200)))
        rows = store.updates(key)
        assert (await anext(rows)).update.data == 0
        await rows.aclose()  # type: ignore[attr-defined]
        assert len(await stored(store, key)) == 1200
