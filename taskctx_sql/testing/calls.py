"""The contract of stores: calls of tools and their results."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from taskctx_sql.errors import InvalidArgumentError, RowLevelSecurityError, UnsupportedByStoreError
from taskctx_sql.model import ContextKey, OpenCall
from taskctx_sql.stores import ContextStore, StateStore
from taskctx_sql.testing.deltas import new_delta
from taskctx_sql.testing.running import ContractPart
from taskctx_sql.testing.state import keeps_state


def called(call_id: str, name: str = "search") -> tuple[str, Any, dict[str, Any]]:
    """Return a call of a tool."""
    return "tool_call", {"name": name, "arguments": {}}, {"group": call_id, "name": name}


def answered(call_id: str, **about: Any) -> tuple[str, Any, dict[str, Any]]:
    """Return the result of a call; ``about`` is more of its metadata."""
    return "tool_result", {"found": 1}, {"group": call_id, **about}


async def open_ids(store: StateStore, key: ContextKey) -> list[str]:
    """Return the ids of a context's open calls."""
    return [call.call_id for call in await store.open_calls(key)]


class CallsOfTools(ContractPart):
    """Calls of tools that are open, and closing them."""

    async def test_a_store_that_cannot_list_open_calls_says_so(self, store: ContextStore, key: ContextKey) -> None:
        if keeps_state(store) or not isinstance(store, StateStore):
            return
        for call in (store.open_calls(key), store.close_calls(key)):
            with pytest.raises(UnsupportedByStoreError):
                await call

    async def test_a_call_is_open_until_it_has_a_result(self, store: ContextStore, key: ContextKey) -> None:
        if not keeps_state(store):
            return
        assert list(await store.open_calls(key)) == []
        await store.write(key, updates=[called("1"), ("message", "a"), called("2", "write é"), ("tool_call", "no id")])
        found = await store.open_calls(key)
        assert [(call.key, call.seq, call.call_id, call.name) for call in found] == [
            (key, 1, "1", "search"),
            (key, 3, "2", "write é"),
        ]
        started = (await store.load(key)).history[0].timestamp
        assert found[0].started_at == started
        # A result of a call that nobody made, and one that failed.
        await store.write(key, updates=[answered("none"), answered("2", error="no disk")])
        assert await open_ids(store, key) == ["1"]
        await store.write(key, updates=[answered("1")])
        assert await open_ids(store, key) == []

    async def test_a_result_ends_the_calls_of_its_group_before_it(self, store: ContextStore, key: ContextKey) -> None:
        if not keeps_state(store):
            return
        await store.write(key, updates=[answered("1"), called("1")])
        assert await open_ids(store, key) == ["1"]
        # Retried with the same id.
        await store.write(key, updates=[called("1"), answered("1")])
        assert await open_ids(store, key) == []
        await store.write(key, updates=[called("1")])
        assert [call.seq for call in await store.open_calls(key)] == [5]

    async def test_only_what_is_in_the_history_counts(self, store: ContextStore, key: ContextKey) -> None:
        if not keeps_state(store):
            return
        await store.write(key, updates=[called("1"), called("2"), answered("1"), answered("2")])
        await store.write(key, remove_updates=[2, 3])
        assert await open_ids(store, key) == ["1"]
        # The copies that a restore writes are in the history.
        loaded = await store.load(key)
        await store.save(new_delta(key, base=loaded.base, operation="restore", source_revision=1))
        assert await open_ids(store, key) == []
        await store.pop_update(key, types=["tool_result"])
        assert await open_ids(store, key) == ["2"]

    async def test_open_calls_are_closed_in_one_save(self, store: ContextStore, key: ContextKey) -> None:
        if not keeps_state(store):
            return
        assert list(await store.close_calls(key)) == []
        assert (await store.load(key)).revision == 0
        await store.write(key, updates=[called("1"), called("2"), called("2"), answered("1")])
        closed = await store.close_calls(key, error="the process ended")
        assert [(call.seq, call.call_id) for call in closed] == [(2, "2"), (3, "2")]
        loaded = await store.load(key)
        assert loaded.revision == 2
        assert [(one.update_type, one.data, one.metadata) for one in loaded.history[4:]] == [
            (
                "tool_result",
                {"error": "the process ended"},
                {"group": "2", "name": "search", "error": "the process ended", "closed": True},
            )
        ]
        assert list(await store.close_calls(key)) == []
        assert (await store.load(key)).revision == 2
        for wrong in ("", None):
            with pytest.raises(InvalidArgumentError, match="error"):
                await store.close_calls(key, error=wrong)  # type: ignore[arg-type]

    async def test_of_several_that_close_calls_each_call_gets_one_result(
        self, store: ContextStore, key: ContextKey
    ) -> None:
        if not keeps_state(store):
            return
        await store.write(key, updates=[called(str(number)) for number in range(3)])
        found = await asyncio.gather(*(store.close_calls(key) for _ in range(4)))
        assert sorted(map(len, found)) == [0, 0, 0, 3]
        assert len((await store.load(key)).history) == 6

    async def test_open_calls_of_a_user_and_of_all_users(self, store: ContextStore, user: str) -> None:
        if not keeps_state(store):
            return
        keys = [ContextKey(f"{user}-1", "a"), ContextKey(f"{user}-1", "b"), ContextKey(f"{user}-2", "a")]
        for key in keys:
            await store.write(key, updates=[called("1"), called("2"), answered("2")])
        mine = await store.open_calls(user_id=f"{user}-1")
        assert {call.key for call in mine} == set(keys[:2])
        with pytest.raises(InvalidArgumentError, match="user_id"):
            await store.open_calls(keys[0], user_id=user)
        try:
            everybody: list[OpenCall] = [call for call in await store.open_calls() if call.key in keys]
        except RowLevelSecurityError:
            # This account sees one user at a time.
            return
        assert {call.key for call in everybody} == set(keys)
