"""The item store: what it finds, for whom, and until when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from langgraph.store.base import GetOp, ListNamespacesOp, PutOp, SearchOp

from taskctx_sql import SqlStore, Store, open_store
from taskctx_sql.clock import replaced
from taskctx_sql.errors import InvalidArgumentError, StoreClosedError
from taskctx_sql.integrations import identity
from taskctx_sql.integrations.langgraph import ContextItemStore
from taskctx_sql.sql.schema import tables
from tests.conftest import Clock
from tests.support.waiting import until


@pytest.fixture
async def items(store: Store, user: str) -> ContextItemStore:
    return ContextItemStore(store, user_id=user)


async def keys(items: ContextItemStore, namespace: tuple[str, ...] = (), **options: Any) -> list[str]:
    return [item.key for item in await items.asearch(namespace, **options)]


async def test_an_item_comes_back_with_its_times_and_keeps_when_it_was_made(items: ContextItemStore) -> None:
    value = {"name": "Ada", "age": 36, "tags": ["a", {"b": None}], "when": datetime(2026, 1, 2, tzinfo=UTC)}
    await items.aput(("users", "a/b"), "key/1%", value)
    first = await items.aget(("users", "a/b"), "key/1%")
    assert first is not None
    assert (first.namespace, first.key, first.value) == (("users", "a/b"), "key/1%", value)
    assert datetime.now(UTC) - first.created_at < timedelta(minutes=1)
    await items.aput(("users", "a/b"), "key/1%", {"name": "Bob"})
    second = await items.aget(("users", "a/b"), "key/1%")
    assert second is not None
    assert second.value == {"name": "Bob"}
    assert second.created_at == first.created_at < second.updated_at
    await items.adelete(("users", "a/b"), "key/1%")
    assert await items.aget(("users", "a/b"), "key/1%") is None


FILTERS: list[tuple[dict[str, Any], list[str]]] = [
    ({"n": 2}, ["2"]),
    ({"n": {"$eq": 2}}, ["2"]),
    ({"n": {"$ne": 2}}, ["1", "3", "none", "text"]),
    ({"n": {"$gt": 1}}, ["2", "3"]),
    ({"n": {"$gte": 2, "$lt": 3}}, ["2"]),
    ({"n": {"$lte": 1.0}}, ["1"]),
    ({"n": {"$gt": "a"}}, ["text"]),
    ({"n": True}, []),
    ({"deep": {"x": 1}}, ["1"]),
    ({"deep": {"x": {"$gt": 1}}}, ["2"]),
    ({"deep.x": 2}, ["2"]),
    ({"deep.x.y": 2}, []),
    ({"list": [1, 2]}, ["3"]),
    ({"list": [1]}, []),
    ({"missing": None}, ["1", "2", "3", "none", "text"]),
    ({"n": 1, "deep": {"x": 1}}, ["1"]),
]
FILTERED: dict[str, dict[str, Any]] = {
    "1": {"n": 1, "deep": {"x": 1, "y": 2}},
    "2": {"n": 2, "deep": {"x": 2}},
    "3": {"n": 3, "list": [1, 2]},
    "none": {"deep": 1},
    "text": {"n": "b"},
}


async def test_filters_compare_values(items: ContextItemStore) -> None:
    for key, value in FILTERED.items():
        await items.aput(("ns",), key, value)
    for wanted, found in FILTERS:
        assert sorted(await keys(items, ("ns",), filter=wanted)) == found, wanted


async def test_an_unknown_operator_is_an_error(items: ContextItemStore) -> None:
    await items.aput(("ns",), "1", {"n": 1})
    with pytest.raises(ValueError, match="Unsupported operator: \\$in"):
        await items.asearch(("ns",), filter={"n": {"$in": [1]}})


async def test_a_search_has_the_last_updated_first_a_page_at_a_time(items: ContextItemStore) -> None:
    for name in ("c", "a", "b", "d"):
        await items.aput(("ns",), name, {"name": name})
    await items.aput(("ns",), "c", {"name": "again"})
    assert await keys(items, ("ns",), limit=3) == ["c", "d", "b"]
    assert await keys(items, ("ns",), limit=3, offset=3) == ["a"]


async def test_a_namespace_has_what_is_below_it_and_nothing_beside(items: ContextItemStore) -> None:
    for namespace in [("a",), ("a", "b"), ("a", "b", "c"), ("a-",), ("ab",), ("a", "0"), ("A",)]:
        await items.aput(namespace, "key", {"at": ".".join(namespace)})
    found = sorted(item.namespace for item in await items.asearch(("a",)))
    assert found == [("a",), ("a", "0"), ("a", "b"), ("a", "b", "c")]
    assert len(await items.asearch(())) == 7
    assert await items.alist_namespaces(prefix=("a",)) == found
    assert await items.alist_namespaces(prefix=("*", "b")) == [("a", "b"), ("a", "b", "c")]
    assert await items.alist_namespaces(suffix=("c",)) == [("a", "b", "c")]
    assert await items.alist_namespaces(prefix=("a",), max_depth=2) == [("a",), ("a", "0"), ("a", "b")]
    assert await items.alist_namespaces(limit=2, offset=1) == [("a",), ("a", "0")]
    await items.adelete(("a", "0"), "key")
    assert ("a", "0") not in await items.alist_namespaces()


async def test_namespaces_are_listed_without_reading_every_item(items: ContextItemStore, store: Store) -> None:
    puts = [PutOp(("big", f"{number % 2}"), f"{number}", {"n": number}) for number in range(1_000)]
    await items.abatch([*puts, PutOp(("small",), "1", {})])
    read = 0
    original = store.state

    async def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal read
        found = await original(*arguments, **options)
        read += len(found)
        return found

    store.state = counted  # type: ignore[method-assign]
    assert await items.alist_namespaces() == [("big", "0"), ("big", "1"), ("small",)]
    assert read < 600


async def test_a_batch_reads_first_and_then_writes_in_one_transaction(
    items: ContextItemStore, store: Store, user: str
) -> None:
    await items.aput(("ns",), "1", {"n": 1})
    key = identity.key("langgraph", user, "store", "default")
    before = (await store.load(key)).revision
    results = await items.abatch(
        [
            PutOp(("ns",), "1", {"n": 2}),
            GetOp(("ns",), "1"),
            PutOp(("ns",), "2", {"n": 2}),
            SearchOp(("ns",)),
            ListNamespacesOp(),
            PutOp(("ns",), "2", {"n": 3}),
            GetOp(("ns",), "2"),
        ]
    )
    assert results[0] is None
    assert results[1].value == {"n": 1}  # type: ignore[union-attr]
    assert [item.key for item in results[3]] == ["1"]  # type: ignore[union-attr]
    assert results[4] == [("ns",)]
    assert results[6] is None
    assert (await store.load(key)).revision == before + 1
    assert sorted((item.key, item.value["n"]) for item in await items.asearch(("ns",))) == [("1", 2), ("2", 3)]


async def test_calls_made_at_once_are_one_write_and_fail_by_themselves(
    items: ContextItemStore, store: Store, user: str
) -> None:
    await items.aput(("a",), "0", {"n": 0})
    *done, found = await asyncio.gather(
        *(items.aput(("a",), str(number), {"n": number}) for number in range(1, 20)), items.aget(("a",), "0")
    )
    assert done == [None] * 19
    assert found is not None
    entries = await store.state(identity.key("langgraph", user, "store", "default"), prefix="item/")
    assert {entry.revision for entry in entries} == {1, 2}
    *puts, failed = await asyncio.gather(
        *(items.aput(("b",), str(number), {"n": number}) for number in range(3)),
        items.asearch(("a",), filter={"n": {"$near": 1}}),
        return_exceptions=True,
    )
    assert puts == [None] * 3
    assert isinstance(failed, ValueError)
    assert len(await keys(items, ("b",))) == 3


async def test_users_and_apps_have_items_of_their_own(store: Store, user: str) -> None:
    mine, theirs = (ContextItemStore(store, user_id=f"{user}-{name}") for name in ("mine", "theirs"))
    other_app = ContextItemStore(store, user_id=f"{user}-mine", app="other")
    await mine.aput(("ns",), "1", {"whose": "mine"})
    assert await theirs.aget(("ns",), "1") is None
    assert await other_app.asearch(()) == []
    (summary,) = await store.contexts(f"{user}-mine")
    assert (summary.chat_id, summary.labels) == (
        "langgraph/store/default",
        {"framework": "langgraph", "app": "default"},
    )


async def test_an_item_expires_unless_it_is_read_in_time(
    store: Store, user: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = ContextItemStore(store, user_id=user, ttl={"default_ttl": 1.0, "refresh_on_read": True})
    names = ("read", "found", "left", "looked at")
    monkeypatch.setattr(time, "time", clock)
    with replaced(clock):
        for name in names:
            await items.aput((name,), "key", {})
        await items.aput(("forever",), "key", {}, ttl=None)
        for _ in range(3):
            clock.now += 30
            assert await items.aget(("read",), "key") is not None
            assert await keys(items, ("found",)) == ["key"]
            await items.aget(("looked at",), "key", refresh_ttl=False)
        assert [await items.aget((name,), "key") is not None for name in names] == [True, True, False, False]
        assert await items.alist_namespaces() == [("forever",), ("found",), ("read",)]
        assert await items.asweep_ttl() >= 2
        assert await items.aget(("forever",), "key") is not None


async def test_reading_an_item_again_at_once_writes_nothing(store: Store, user: str) -> None:
    items = ContextItemStore(store, user_id=user, ttl={"default_ttl": 1.0})
    await items.aput(("ns",), "1", {})
    key = identity.key("langgraph", user, "store", "default")
    before = (await store.load(key)).revision
    for _ in range(3):
        await items.aget(("ns",), "1")
    assert (await store.load(key)).revision == before


async def test_reading_an_item_does_not_put_it_before_those_updated_later(
    items: ContextItemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskctx_sql.integrations.langgraph.items._REFRESHED_AFTER", -1)
    for name in ("first", "second", "third"):
        await items.aput(("a",), name, {"name": name}, ttl=10)
    assert await items.aget(("a",), "first") is not None
    assert await keys(items, limit=1, refresh_ttl=False) == ["third"]
    assert await keys(items, limit=2, offset=1, refresh_ttl=False) == ["second", "first"]
    assert await keys(items, filter={"name": "first"}, limit=1, refresh_ttl=False) == ["first"]


async def test_what_has_expired_is_swept_in_the_background(user: str) -> None:
    ttl: Any = {"default_ttl": 0.05 / 60, "sweep_interval_minutes": 0.1 / 60}
    async with ContextItemStore.from_conn_string("sqlite:///items.db", user_id=user, ttl=ttl) as items:
        await items.aput(("ns",), "1", {})
        async with open_store("sqlite:///items.db") as store:
            assert isinstance(store, SqlStore)
            expired = sa.select(tables.state.c.name).where(tables.state.c.expires_at.is_not(None))

            async def is_swept() -> bool:
                return not await store.query(expired)

            await until(is_swept)


async def embed(texts: Sequence[str]) -> list[list[float]]:
    """How often a text has each of three letters."""
    return [[float(text.count(letter)) for letter in "abc"] for text in texts]


INDEX: Any = {"dims": 3, "embed": embed, "fields": ["text", "notes[*]"]}


async def test_a_query_finds_the_nearest_first(store: Store, user: str) -> None:
    items = ContextItemStore(store, user_id=user, index=INDEX)
    await items.aput(("ns",), "a", {"text": "aaa"})
    await items.aput(("ns",), "b", {"text": "bbb", "kind": "one"})
    await items.aput(("ns",), "notes", {"text": "ccc", "notes": ["aab", "ccc"]})
    await items.aput(("ns",), "hidden", {"text": "aaa"}, index=False)
    await items.aput(("ns",), "other field", {"text": "ccc", "title": "a"}, index=["title"])
    found = await items.asearch(("ns",), query="a", limit=3)
    assert [(item.key, round(item.score or 0, 2)) for item in found] == [("a", 1), ("other field", 1), ("notes", 0.89)]
    assert await keys(items, ("ns",), query="a", filter={"kind": "one"}) == ["b"]
    assert await keys(items, ("ns",), query="a", limit=1, offset=1) == ["other field"]
    await items.aput(("ns",), "a", {"text": "bbb"})
    await items.adelete(("ns",), "other field")
    assert await keys(items, ("ns",), query="a", limit=1) == ["notes"]


async def test_an_item_put_without_an_index_is_not_found_by_what_it_was(store: Store, user: str) -> None:
    items = ContextItemStore(store, user_id=user, index=INDEX)
    await items.aput(("ns",), "a", {"text": "aaa"})
    await ContextItemStore(store, user_id=user).aput(("ns",), "a", {"text": "bbb"})
    assert await keys(items, ("ns",), query="a") == []
    assert await keys(ContextItemStore(store, user_id=user), ("ns",), query="a") == ["a"]


@pytest.mark.parametrize(("distance", "nearest"), [("cosine", "far"), ("inner_product", "far"), ("l2", "near")])
async def test_nearness_is_as_the_index_says(distance: str, nearest: str, user: str) -> None:
    index = INDEX | {"distance_type": distance}
    async with ContextItemStore.from_conn_string("sqlite:///items.db", user_id=user, index=index) as items:
        await items.aput(("ns",), "near", {"text": "ab"})
        await items.aput(("ns",), "far", {"text": "aaaaaaaaab"})
        assert (await keys(items, ("ns",), query="a"))[0] == nearest


async def test_an_unknown_distance_is_an_error(store: Store) -> None:
    with pytest.raises(InvalidArgumentError, match="hamming"):
        ContextItemStore(store, index=INDEX | {"distance_type": "hamming"})


def test_sync_code_uses_the_store_as_well(database_url: str, user: str) -> None:
    with ContextItemStore.from_conn_string(database_url, user_id=user) as items:
        items.put(("ns",), "1", {"n": 1})
        item = items.get(("ns",), "1")
        assert item is not None
        assert item.value == {"n": 1}
        assert items.list_namespaces() == [("ns",)]
        assert items.sweep_ttl() == 0
    with pytest.raises(StoreClosedError):
        items.get(("ns",), "1")
