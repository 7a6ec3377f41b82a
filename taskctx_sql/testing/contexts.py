"""The contract of stores: the identity of contexts, listing, deleting and closing."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from taskctx_sql.errors import (
    InvalidArgumentError,
    LostContextError,
    RowLevelSecurityError,
    StoreClosedError,
    UnsupportedByStoreError,
)
from taskctx_sql.model import ContextKey, ContextSummary, StateChange
from taskctx_sql.stores import ContextStore, Feature
from taskctx_sql.testing.deltas import all_rows, new_delta, stored
from taskctx_sql.testing.running import ContractPart


class Identity(ContractPart):
    """Which contexts are the same."""

    async def test_chats_are_kept_apart(self, store: ContextStore, user: str) -> None:
        await store.save(new_delta(ContextKey(user, "c1"), "one"))
        await store.save(new_delta(ContextKey(user, "c2"), "two"))
        assert await stored(store, ContextKey(user, "c1")) == ["one"]
        assert await stored(store, ContextKey(user, "c2")) == ["two"]

    async def test_users_are_kept_apart_where_the_store_knows_them(self, store: ContextStore, user: str) -> None:
        await store.save(new_delta(ContextKey(f"{user}-1", "c1"), "one"))
        await store.save(new_delta(ContextKey(f"{user}-2", "c1"), "two"))
        expected = ["one"] if Feature.USERS in store.features else ["one", "two"]
        assert await stored(store, ContextKey(f"{user}-1", "c1")) == expected

    @pytest.mark.parametrize(
        "chat",
        [
            "../x",
            "/etc/passwd",
            "a/b",
            "a\\b",
            "..",
            ".",
            "%2e%2e",
            "%2F",
            "a%b",
            "",
            " ",
            "CON",
            "a\nb",
            "'; DROP TABLE x",
        ],
    )
    async def test_a_crafted_id_is_an_id_like_any_other(self, store: ContextStore, user: str, chat: str) -> None:
        others = [ContextKey(user, other) for other in ("x", "etc/passwd", "a", "%252F")]
        for other in others:
            await store.save(new_delta(other, "other"))
        await store.save(new_delta(ContextKey(user, chat), "mine"))
        assert await stored(store, ContextKey(user, chat)) == ["mine"]
        for other in others:
            assert await stored(store, other) == ["other"]
        assert chat in {summary.chat_id for summary in await store.contexts(user)}

    async def test_look_alike_ids_are_different_ids(self, store: ContextStore, user: str) -> None:
        alike = ["a", "A", "а", "a ", "ａ", "e\u0301", "é"]
        for chat in alike:
            await store.save(new_delta(ContextKey(user, chat), chat))
        for chat in alike:
            assert await stored(store, ContextKey(user, chat)) == [chat]

    async def test_an_id_at_the_limit_is_kept(self, store: ContextStore, user: str) -> None:
        key = ContextKey(user, "x" * 230)
        await store.save(new_delta(key, "a"))
        assert await stored(store, key) == ["a"]

    async def test_a_number_as_an_id_is_its_text(self, store: ContextStore, user: str) -> None:
        await store.save(new_delta(ContextKey(user, 42), "a"))  # type: ignore[arg-type]  # callers without types
        assert await stored(store, ContextKey(user, "42")) == ["a"]


class Listing(ContractPart):
    """Listing a user's contexts, and deleting them."""

    async def test_a_users_contexts_are_listed_newest_first(self, store: ContextStore, user: str) -> None:
        for number in range(5):
            await store.save(new_delta(ContextKey(user, f"c{number}"), number))
            await asyncio.sleep(0.01)
        found = await store.contexts(user)
        assert [summary.chat_id for summary in found] == ["c4", "c3", "c2", "c1", "c0"]
        assert {summary.user_id for summary in found} == {user}

    async def test_a_list_comes_in_pages_that_miss_none_and_repeat_none(self, store: ContextStore, user: str) -> None:
        for number in range(7):
            await store.save(new_delta(ContextKey(user, f"c{number}"), number))
        pages = []
        after = None
        while page := await store.contexts(user, after=after, limit=3):
            pages.append([summary.chat_id for summary in page])
            after = page[-1]
        assert [len(page) for page in pages] == [3, 3, 1]
        assert sorted(chat for page in pages for chat in page) == [f"c{number}" for number in range(7)]

    async def test_a_page_of_no_size_is_refused(self, store: ContextStore, user: str) -> None:
        for wrong in (-1, "3", None, 2**63):
            with pytest.raises(InvalidArgumentError, match="limit"):
                await store.contexts(user, limit=wrong)  # type: ignore[arg-type]

    async def test_nobody_has_contexts_at_first(self, store: ContextStore, user: str) -> None:
        assert list(await store.contexts(user)) == []

    async def test_another_users_contexts_are_not_listed_where_the_store_knows_users(
        self, store: ContextStore, user: str
    ) -> None:
        await store.save(new_delta(ContextKey(user, "c1"), "a"))
        found = [summary.chat_id for summary in await store.contexts(f"{user}-other")]
        assert found == ([] if Feature.USERS in store.features else ["c1"])

    async def test_the_contexts_of_all_users_are_listed(self, store: ContextStore, user: str) -> None:
        keys = [ContextKey(f"{user}-{number % 2}", f"c{number}") for number in range(5)]
        for key in keys:
            await store.save(new_delta(key, "a"))
            await asyncio.sleep(0.01)
        found: list[ContextSummary] = []
        try:
            while page := await store.contexts(None, after=found[-1] if found else None, limit=2):
                found += page
        except RowLevelSecurityError:
            # An account that sees one user at a time is told so, and gets no part of the list.
            assert found == []
            return
        # The database may have contexts of others.
        mine = [one for one in found if one.user_id.startswith(user) or Feature.USERS not in store.features]
        assert [one.chat_id for one in mine] == ["c4", "c3", "c2", "c1", "c0"]
        if Feature.USERS in store.features:
            assert [ContextKey(one.user_id, one.chat_id) for one in reversed(mine)] == keys

    async def test_only_contexts_that_were_saved_since_are_listed(self, store: ContextStore, user: str) -> None:
        for chat in ("c1", "c2", "c3"):
            await store.save(new_delta(ContextKey(user, chat), "a"))
            await asyncio.sleep(0.02)
        moment = (await store.contexts(user))[1].updated_at
        assert [one.chat_id for one in await store.contexts(user, updated_since=moment)] == ["c3", "c2"]
        assert list(await store.contexts(user, updated_since=moment + 3600)) == []

    async def test_contexts_are_found_by_label_and_title_where_the_store_keeps_them(
        self, store: ContextStore, user: str
    ) -> None:
        if Feature.STATE not in store.features:
            for asked in ({"labels": {"framework": "x"}}, {"title": "x"}, {"state": ["x"]}, {"state": None}):
                with pytest.raises(UnsupportedByStoreError):
                    await store.contexts(user, **asked)
            return
        for number, title in enumerate(("Invoice É 1", 'the "second" invoice', "Other")):
            labels = {"title": title, "framework": "x" if number else "y", "owner": user}
            changes = [StateChange(name, value, kind="label") for name, value in labels.items()]
            await store.save(new_delta(ContextKey(user, f"c{number}"), "a", state=changes))
            await asyncio.sleep(0.01)
        await store.save(new_delta(ContextKey(user, "bare"), "a"))

        async def chats(**asked: Any) -> list[str]:
            return [one.chat_id for one in await store.contexts(user, **asked)]

        assert await chats(labels={"framework": "x"}) == ["c2", "c1"]
        assert await chats(labels={"framework": "y", "owner": user}) == ["c0"]
        assert await chats(labels={"framework": "z"}) == []
        assert await chats(labels={"none": "x"}) == []
        assert await chats(title="iNVoice") == ["c1", "c0"]
        # Only the case of ASCII letters does not matter.
        assert await chats(title="é") == []
        assert await chats(title='"SECOND"', labels={"framework": "x"}) == ["c1"]
        assert await chats(title="") == ["c2", "c1", "c0"]
        (bare, first) = (await store.contexts(user))[::3]
        assert (bare.chat_id, bare.title, dict(bare.labels)) == ("bare", None, {})
        assert (first.title, dict(first.labels)) == (
            "Invoice É 1",
            {"framework": "y", "owner": user, "title": "Invoice É 1"},
        )

    async def test_a_list_has_the_named_values_that_it_is_asked_for(self, store: ContextStore, user: str) -> None:
        if Feature.STATE not in store.features:
            return
        kept = {"__bytes__": "AA==", "n": {"deep": [float("inf"), 2**70, b"\x00", "\x00"]}, "é": None}
        past, future = time.time() - 1, time.time() + 1000
        changes = [
            *(StateChange(name, value) for name, value in kept.items()),
            StateChange("expired", 1, expires_at=past),
            StateChange("expires", 2, expires_at=future),
            StateChange("n", "a label", kind="label"),
        ]
        first = await store.save(new_delta(ContextKey(user, "c1"), state=[StateChange("é", 0), StateChange("gone", 0)]))
        gone = StateChange("gone", removed=True)
        await store.save(new_delta(ContextKey(user, "c1"), state=[*changes, gone], base=first.base))
        await asyncio.sleep(0.01)
        await store.save(new_delta(ContextKey(user, "c2"), "a", state=[StateChange("n", 2)]))
        await asyncio.sleep(0.01)
        await store.save(new_delta(ContextKey(user, "c3"), "a"))

        async def states(**asked: Any) -> list[dict[str, Any]]:
            return [dict(one.state) for one in await store.contexts(user, **asked)]

        assert await states() == await states(state=[]) == [{}, {}, {}]
        assert await states(state=["n"]) == [{}, {"n": 2}, {"n": kept["n"]}]
        names = ("é", "expired", "gone", "expires", "n", "none", "__bytes__")
        everything = kept | {"expires": 2}
        assert await states(state=names) == await states(state=None) == [{}, {"n": 2}, everything]
        assert list((await states(state=None))[2]) == sorted(everything)
        assert await states(state=["n"], labels={"n": "a label"}) == [{"n": kept["n"]}]
        (page,) = await store.contexts(user, state=["n"], limit=1, after=(await store.contexts(user))[0])
        assert (page.chat_id, page.state) == ("c2", {"n": 2})

    async def test_a_listing_that_makes_no_sense_is_refused(self, store: ContextStore, user: str) -> None:
        for name, wrong in (
            *(("labels", ["x"]), ("labels", {"x": 1}), ("title", 1), ("updated_since", "now"), ("after", 3)),
            *(("state", "x"), ("state", [1]), ("state", ["a\x00"]), ("state", ["\ud800"]), ("state", 1)),
        ):
            with pytest.raises(InvalidArgumentError, match=name):
                await store.contexts(user, **{name: wrong})  # type: ignore[arg-type]

    async def test_a_summary_tells_when_and_how_often(self, store: ContextStore, key: ContextKey) -> None:
        first = await store.save(new_delta(key, "a"))
        await store.save(new_delta(key, "b", base=first.base))
        (summary,) = await store.contexts(key.user_id)
        if Feature.REVISIONS in store.features:
            assert summary.revision == 2
            assert summary.created_at is not None
            assert summary.created_at <= summary.updated_at
        else:
            assert summary.revision in (None, 2)
        assert summary.updated_at > 1_700_000_000

    async def test_a_deleted_context_is_gone(self, store: ContextStore, key: ContextKey) -> None:
        await store.save(new_delta(key, "a"))
        assert await store.delete(key)
        assert (await store.load(key)).revision == 0
        assert not await store.delete(key)
        assert list(await store.contexts(key.user_id)) == []

    async def test_a_deleted_context_can_be_made_anew(self, store: ContextStore, key: ContextKey) -> None:
        await store.save(new_delta(key, "a"))
        await store.delete(key)
        await store.save(new_delta(key, "b"))
        assert await stored(store, key) == ["b"]

    async def test_a_context_that_was_deleted_meanwhile_is_lost_and_not_made_anew(
        self, store: ContextStore, key: ContextKey
    ) -> None:
        saved = await store.save(new_delta(key, "a"))
        await store.delete(key)
        for _ in range(2):
            with pytest.raises(LostContextError):
                await store.save(new_delta(key, "b", base=saved.base))
            assert (await store.load(key)).revision == 0
            await store.save(new_delta(key, "new"))
            assert await stored(store, key) == ["new"]
            await store.delete(key)

    async def test_deleting_one_context_leaves_its_neighbours(self, store: ContextStore, user: str) -> None:
        await store.save(new_delta(ContextKey(user, "c1"), "a"))
        await store.save(new_delta(ContextKey(user, "c2"), "b"))
        await store.delete(ContextKey(user, "c1"))
        assert await stored(store, ContextKey(user, "c2")) == ["b"]


class Lifecycle(ContractPart):
    """What an open and a closed store do."""

    async def test_an_open_store_answers(self, store: ContextStore, key: ContextKey) -> None:
        await store.ping()
        await store.save(new_delta(key, "a"))
        await store.ping(timeout=20)
        for timeout in (0, -1, float("nan")):
            with pytest.raises(InvalidArgumentError, match="timeout"):
                await store.ping(timeout=timeout)

    async def test_a_closed_store_says_so(self, store: ContextStore, key: ContextKey) -> None:
        await store.close()
        await store.close()
        with pytest.raises(StoreClosedError):
            await store.load(key)
        with pytest.raises(StoreClosedError):
            await store.save(new_delta(key, "a"))
        with pytest.raises(StoreClosedError):
            await store.contexts(key.user_id)
        with pytest.raises(StoreClosedError):
            await store.delete(key)
        with pytest.raises(StoreClosedError):
            await store.ping()
        with pytest.raises(StoreClosedError):
            await all_rows(store, key)
