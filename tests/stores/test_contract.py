"""What every store promises, one suite over all of them. A store that cannot do something says so in ``features``."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from taskctx_sql import ContextKey, ContextUpdate, Feature, Store
from taskctx_sql.errors import InvalidArgumentError, InvalidIdError, StaleContextError, StoreClosedError
from taskctx_sql.model import FileChange, MappingChange
from tests.support.contract import all_rows, new_delta, new_run, stored


@pytest.fixture
def key(user: str) -> ContextKey:
    return ContextKey(user, "c1")


# Loading.


async def test_a_context_that_is_not_there_loads_as_nothing(store: Store, key: ContextKey) -> None:
    loaded = await store.load(key)
    assert loaded.revision == 0
    assert not loaded.updates
    assert not loaded.earlier
    assert not loaded.files
    assert not loaded.models


async def test_loading_does_not_make_a_context(store: Store, key: ContextKey) -> None:
    await store.load(key)
    assert not await store.delete(key)


async def test_an_update_comes_back_as_it_was(store: Store, key: ContextKey) -> None:
    update = ContextUpdate(1_700_000_000.123456, "message", {"b": [1, 2.5, None], "a": "é"}, {"source": "user"})
    await store.save(_delta_of(key, update))
    assert [row.update for row in (await store.load(key)).updates] == [update]


async def test_the_order_of_keys_in_data_is_kept(store: Store, key: ContextKey) -> None:
    await store.save(new_delta(key, {"z": 1, "a": 2, "m": {"y": 1, "b": 2}}))
    (data,) = await stored(store, key)
    assert list(data) == ["z", "a", "m"]
    assert list(data["m"]) == ["y", "b"]


async def test_updates_load_in_the_order_of_their_saving_whatever_their_clocks_say(
    store: Store, key: ContextKey
) -> None:
    for timestamp in (300.0, 100.0, 200.0):
        await store.save(_delta_of(key, ContextUpdate(timestamp, "message", timestamp, {})))
    assert await stored(store, key) == [300.0, 100.0, 200.0]


async def test_seqs_rise_by_one_without_a_gap(store: Store, key: ContextKey) -> None:
    for size in (1, 3, 2):
        await store.save(new_delta(key, *range(size)))
    rows = await all_rows(store, key)
    assert [row.seq for row in rows] == list(range(rows[0].seq, rows[0].seq + 6))


async def test_a_limit_loads_the_newest_updates_in_order(store: Store, key: ContextKey) -> None:
    await store.save(new_delta(key, *range(10)))
    loaded = await store.load(key, history_limit=3)
    assert [row.update.data for row in loaded.updates] == [7, 8, 9]
    assert loaded.earlier


@pytest.mark.parametrize("limit", [10, 11, 1000])
async def test_a_limit_that_all_updates_fit_into_leaves_nothing_out(store: Store, key: ContextKey, limit: int) -> None:
    await store.save(new_delta(key, *range(10)))
    loaded = await store.load(key, history_limit=limit)
    assert len(loaded.updates) == 10
    assert not loaded.earlier


async def test_a_limit_of_zero_loads_no_updates(store: Store, key: ContextKey) -> None:
    await store.save(new_delta(key, 1))
    loaded = await store.load(key, history_limit=0)
    assert not loaded.updates
    assert loaded.earlier
    assert loaded.revision > 0


# Reading page by page.


async def test_all_updates_can_be_read_in_order(store: Store, key: ContextKey) -> None:
    await store.save(new_delta(key, *range(1200)))
    assert [row.update.data for row in await all_rows(store, key)] == list(range(1200))


async def test_all_updates_can_be_read_newest_first(store: Store, key: ContextKey) -> None:
    await store.save(new_delta(key, *range(1200)))
    rows = await all_rows(store, key, newest_first=True)
    assert [row.update.data for row in rows] == list(range(1199, -1, -1))


async def test_reading_goes_on_after_a_seq(store: Store, key: ContextKey) -> None:
    await store.save(new_delta(key, *"abcde"))
    rows = await all_rows(store, key)
    assert [row.update.data for row in await all_rows(store, key, after=rows[1].seq)] == ["c", "d", "e"]


async def test_reading_ends_before_a_seq(store: Store, key: ContextKey) -> None:
    await store.save(new_delta(key, *"abcde"))
    rows = await all_rows(store, key)
    earlier = await all_rows(store, key, before=rows[3].seq, newest_first=True)
    assert [row.update.data for row in earlier] == ["c", "b", "a"]


async def test_a_limited_load_and_the_pages_before_it_are_the_whole_history(store: Store, key: ContextKey) -> None:
    await store.save(new_delta(key, *range(700)))
    newest = (await store.load(key, history_limit=50)).updates
    before = await all_rows(store, key, before=newest[0].seq)
    assert [row.update.data for row in [*before, *newest]] == list(range(700))


async def test_nothing_is_read_of_a_context_that_is_not_there(store: Store, key: ContextKey) -> None:
    assert await all_rows(store, key) == []


async def test_reading_may_stop_in_the_middle(store: Store, key: ContextKey) -> None:
    await store.save(new_delta(key, *range(1200)))
    rows = store.updates(key)
    assert (await anext(rows)).update.data == 0
    await rows.aclose()  # type: ignore[attr-defined]
    assert len(await stored(store, key)) == 1200


# Saving.


async def test_a_second_save_adds_to_the_first(store: Store, key: ContextKey) -> None:
    first = await store.save(new_delta(key, "a"))
    second = await store.save(new_delta(key, "b", base=first.base))
    assert await stored(store, key) == ["a", "b"]
    assert second.first_seq == first.first_seq + 1


async def test_each_save_makes_the_next_revision(store: Store, key: ContextKey) -> None:
    base: Any = None
    revisions = []
    for number in range(3):
        saved = await store.save(new_delta(key, number, base=base))
        base = saved.base
        revisions.append(saved.revision)
    assert revisions == list(range(revisions[0], revisions[0] + 3))
    if Feature.REVISIONS in store.features:
        assert revisions[0] == 1
        assert (await store.load(key)).revision == 3


async def test_a_save_without_content_makes_the_context_and_no_revision_after_that(
    store: Store, key: ContextKey
) -> None:
    first = await store.save(new_delta(key, "a"))
    second = await store.save(new_delta(key, base=first.base, run=new_run(ended_at=1.0, outcome="completed")))
    assert second.revision == first.revision
    assert second.complete


async def test_an_empty_context_can_be_saved(store: Store, key: ContextKey) -> None:
    await store.save(new_delta(key))
    assert await store.delete(key)


async def test_two_writers_on_one_context_both_keep_their_rows(store: Store, key: ContextKey) -> None:
    start = await store.save(new_delta(key, "a"))
    one = await store.save(new_delta(key, "one", base=start.base))
    other = await store.save(new_delta(key, "other", base=start.base))
    assert await stored(store, key) == ["a", "one", "other"]
    assert one.complete
    assert not other.complete


async def test_a_writer_that_never_loaded_appends(store: Store, key: ContextKey) -> None:
    await store.save(new_delta(key, "a"))
    saved = await store.save(new_delta(key, "b"))
    assert await stored(store, key) == ["a", "b"]
    assert not saved.complete


async def test_many_tasks_append_to_one_context_without_loss(store: Store, key: ContextKey) -> None:
    async def write(writer: int) -> None:
        run = new_run()
        for number in range(1, 6):
            delta = new_delta(key, [writer, number], run=type(run)(run.run_id, number, run.started_at))
            await store.save(delta)

    await asyncio.gather(*(write(writer) for writer in range(16)))
    rows = await all_rows(store, key)
    datas = [tuple(row.update.data) for row in rows]
    assert sorted(datas) == [(writer, number) for writer in range(16) for number in range(1, 6)]
    assert [row.seq for row in rows] == list(range(rows[0].seq, rows[0].seq + 80))
    for writer in range(16):
        assert [number for who, number in datas if who == writer] == [1, 2, 3, 4, 5]


async def test_first_writers_at_once_make_one_context(store: Store, key: ContextKey) -> None:
    await asyncio.gather(*(store.save(new_delta(key, number)) for number in range(30)))
    assert sorted(await stored(store, key)) == list(range(30))
    assert len(await store.contexts(key.user_id)) == 1


# The identity of a save.


async def test_a_copy_of_a_save_writes_nothing_and_answers_the_same(store: Store, key: ContextKey) -> None:
    delta = new_delta(key, "a", "b", base=(await store.load(key)).base)
    first = await store.save(delta)
    again = await store.save(delta)
    assert await stored(store, key) == ["a", "b"]
    assert again == first


async def test_copies_of_a_save_sent_at_once_write_once(store: Store, key: ContextKey) -> None:
    delta = new_delta(key, "a", base=(await store.load(key)).base)
    answers = await asyncio.gather(*(store.save(delta) for _ in range(8)))
    assert await stored(store, key) == ["a"]
    assert all(answer == answers[0] for answer in answers)


async def test_a_copy_that_comes_after_others_saved_writes_nothing(store: Store, key: ContextKey) -> None:
    delta = new_delta(key, "a", base=(await store.load(key)).base)
    first = await store.save(delta)
    await store.save(new_delta(key, "other", base=first.base))
    again = await store.save(delta)
    assert (again.revision, again.first_seq) == (first.revision, first.first_seq)
    assert await stored(store, key) == ["a", "other"]


async def test_the_next_save_of_a_run_is_no_copy(store: Store, key: ContextKey) -> None:
    run = new_run()
    first = await store.save(new_delta(key, "a", run=run))
    await store.save(new_delta(key, "a", run=type(run)(run.run_id, 2, run.started_at), base=first.base))
    assert await stored(store, key) == ["a", "a"]


# Asking for an unchanged context.


async def test_an_unchanged_context_is_saved(store: Store, key: ContextKey) -> None:
    first = await store.save(new_delta(key, "a"))
    loaded = await store.load(key)
    await store.save(new_delta(key, "b", base=loaded.base, if_unchanged=True))
    assert await stored(store, key) == ["a", "b"]
    assert first.revision > 0


async def test_a_changed_context_is_refused_and_nothing_is_written(store: Store, key: ContextKey) -> None:
    await store.save(new_delta(key, "a"))
    loaded = await store.load(key)
    await store.save(new_delta(key, "other"))
    with pytest.raises(StaleContextError) as caught:
        await store.save(new_delta(key, "b", base=loaded.base, if_unchanged=True))
    assert caught.value.found > caught.value.expected
    assert await stored(store, key) == ["a", "other"]


async def test_a_context_that_appeared_meanwhile_is_refused(store: Store, key: ContextKey) -> None:
    base = (await store.load(key)).base
    await store.save(new_delta(key, "other"))
    with pytest.raises(StaleContextError):
        await store.save(new_delta(key, "b", base=base, if_unchanged=True))


async def test_one_of_many_wins_when_all_ask_for_an_unchanged_context(store: Store, key: ContextKey) -> None:
    await store.save(new_delta(key, "a"))
    base = (await store.load(key)).base
    deltas = [new_delta(key, number, base=base, if_unchanged=True) for number in range(8)]
    answers = await asyncio.gather(*(store.save(delta) for delta in deltas), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, StaleContextError)]
    assert len(refused) == 7
    assert len(await stored(store, key)) == 2


# Removing.


async def test_removed_updates_leave_the_history(store: Store, key: ContextKey) -> None:
    first = await store.save(new_delta(key, *"abcd"))
    seqs = [row.seq for row in await all_rows(store, key)]
    await store.save(new_delta(key, "e", base=first.base, removed_updates=[seqs[0], seqs[2]]))
    assert await stored(store, key) == ["b", "d", "e"]


async def test_what_stays_keeps_its_seq(store: Store, key: ContextKey) -> None:
    first = await store.save(new_delta(key, *"abcd"))
    rows = await all_rows(store, key)
    await store.save(new_delta(key, base=first.base, removed_updates=[rows[1].seq]))
    assert [row.seq for row in await all_rows(store, key)] == [rows[0].seq, rows[2].seq, rows[3].seq]


async def test_all_updates_can_be_removed(store: Store, key: ContextKey) -> None:
    first = await store.save(new_delta(key, *"abc"))
    await store.save(new_delta(key, base=first.base, removed_updates=[r.seq for r in await all_rows(store, key)]))
    assert await stored(store, key) == []
    assert await store.delete(key)


async def test_removing_takes_only_what_was_named_when_others_saved_too(store: Store, key: ContextKey) -> None:
    first = await store.save(new_delta(key, *"abc"))
    mine = [row.seq for row in (await store.load(key)).updates]
    other = await store.load(key)
    await store.save(new_delta(key, "new", base=other.base, removed_updates=[other.updates[0].seq]))
    await store.save(new_delta(key, base=first.base, removed_updates=mine[1:2]))
    assert await stored(store, key) == ["c", "new"]


async def test_removing_twice_is_harmless(store: Store, key: ContextKey) -> None:
    first = await store.save(new_delta(key, *"abc"))
    seq = (await all_rows(store, key))[0].seq
    second = await store.save(new_delta(key, base=first.base, removed_updates=[seq]))
    await store.save(new_delta(key, "d", base=second.base, removed_updates=[seq]))
    assert await stored(store, key) == ["b", "c", "d"]


# The trackers, metadata and toggles.


async def test_tracked_files_are_kept_or_rebuilt(store: Store, key: ContextKey) -> None:
    made = 1_700_000_000.5
    entry = {"operation": "read", "source": "user", "timestamp": made, "state": "active"}
    update = ContextUpdate(made, "file_operation", {"path": "a.txt", "operation": "read"}, {"source": "user"})
    await store.save(_delta_of(key, update, files=[FileChange("a.txt", entry, None)]))
    assert [(path, found) for _, path, found in (await store.load(key)).files] == [("a.txt", entry)]


async def test_model_uses_are_kept_or_rebuilt(store: Store, key: ContextKey) -> None:
    entry = {"model_id": "gpt-4", "provider_id": "openai", "mode": "chat", "timestamp": 1_700_000_000.5, "cost": 0.25}
    update = ContextUpdate(1_700_000_000.75, "model_usage", entry, {})
    await store.save(_delta_of(key, update, models=[entry]))
    assert [found for _, found in (await store.load(key)).models] == [entry]


async def test_tracked_files_and_models_without_updates_are_kept_where_trackers_are(
    store: Store, key: ContextKey
) -> None:
    entry = {"operation": "read", "source": "user", "timestamp": 1.5, "state": "closed", "note": [1]}
    model = {"model_id": None, "extra": {"b": 1}}
    await store.save(new_delta(key, "x", files=[FileChange("a", entry, None)], models=[model]))
    loaded = await store.load(key)
    kept = Feature.TRACKERS in store.features
    assert [found for _, _, found in loaded.files] == ([entry] if kept else [])
    assert [found for _, found in loaded.models] == ([model] if kept else [])


async def test_a_file_no_longer_tracked_leaves(store: Store, key: ContextKey) -> None:
    entry = {"operation": "read", "source": "user", "timestamp": 1.5, "state": "active"}
    first = await store.save(new_delta(key, "x", files=[FileChange("a", entry, None), FileChange("b", entry, None)]))
    await store.save(new_delta(key, base=first.base, files=[FileChange("a", None, None, removed=True)]))
    kept = Feature.TRACKERS in store.features
    assert [path for _, path, _ in (await store.load(key)).files] == (["b"] if kept else [])


async def test_metadata_is_kept_where_it_is(store: Store, key: ContextKey) -> None:
    metadata = {"z": 1, "a": {"hidden": [1, 2]}}
    toggles = {"a": False}
    await store.save(
        new_delta(key, metadata=MappingChange(metadata, metadata, ()), toggles=MappingChange(toggles, toggles, ()))
    )
    loaded = await store.load(key)
    kept = Feature.METADATA in store.features
    assert loaded.metadata == (metadata if kept else None)
    assert loaded.toggles == (toggles if kept else None)


async def test_writers_that_set_different_keys_of_the_metadata_both_keep_theirs(store: Store, key: ContextKey) -> None:
    start = await store.save(new_delta(key, metadata=MappingChange({"a": 1, "x": 1}, {"a": 1, "x": 1}, ())))
    await store.save(new_delta(key, base=start.base, metadata=MappingChange({"a": 2, "x": 1}, {"a": 2}, ())))
    await store.save(new_delta(key, base=start.base, metadata=MappingChange({"a": 1, "b": 3}, {"b": 3}, ["x"])))
    found = (await store.load(key)).metadata
    assert found == ({"a": 2, "b": 3} if Feature.METADATA in store.features else None)


# Identity.


async def test_chats_are_kept_apart(store: Store, user: str) -> None:
    await store.save(new_delta(ContextKey(user, "c1"), "one"))
    await store.save(new_delta(ContextKey(user, "c2"), "two"))
    assert await stored(store, ContextKey(user, "c1")) == ["one"]
    assert await stored(store, ContextKey(user, "c2")) == ["two"]


async def test_users_are_kept_apart_where_the_store_knows_them(store: Store, user: str) -> None:
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
async def test_a_crafted_id_is_an_id_like_any_other(store: Store, user: str, chat: str) -> None:
    others = [ContextKey(user, other) for other in ("x", "etc/passwd", "a", "%252F")]
    for other in others:
        await store.save(new_delta(other, "other"))
    await store.save(new_delta(ContextKey(user, chat), "mine"))
    assert await stored(store, ContextKey(user, chat)) == ["mine"]
    for other in others:
        assert await stored(store, other) == ["other"]
    assert chat in {summary.chat_id for summary in await store.contexts(user)}


async def test_look_alike_ids_are_different_ids(store: Store, user: str) -> None:
    alike = ["a", "A", "а", "a ", "ａ", "e\u0301", "é"]
    for chat in alike:
        await store.save(new_delta(ContextKey(user, chat), chat))
    for chat in alike:
        assert await stored(store, ContextKey(user, chat)) == [chat]


@pytest.mark.parametrize("bad", ["a\x00b", "\ud800", "x" * 256, None, 1.5, b"x", True])
async def test_an_id_that_cannot_be_kept_is_refused_by_name(store: Store, bad: Any) -> None:
    with pytest.raises(InvalidIdError, match="chat_id"):
        ContextKey("u", bad)


async def test_an_id_at_the_limit_is_kept(store: Store, user: str) -> None:
    key = ContextKey(user, "x" * 230)
    await store.save(new_delta(key, "a"))
    assert await stored(store, key) == ["a"]


async def test_a_number_as_an_id_is_its_text(store: Store, user: str) -> None:
    await store.save(new_delta(ContextKey(user, 42), "a"))  # type: ignore[arg-type]  # callers without types
    assert await stored(store, ContextKey(user, "42")) == ["a"]


# Listing and deleting.


async def test_a_users_contexts_are_listed_newest_first(store: Store, user: str) -> None:
    for number in range(5):
        await store.save(new_delta(ContextKey(user, f"c{number}"), number))
        await asyncio.sleep(0.01)
    found = await store.contexts(user)
    assert [summary.chat_id for summary in found] == ["c4", "c3", "c2", "c1", "c0"]
    assert {summary.user_id for summary in found} == {user}


async def test_a_list_comes_in_pages_that_miss_none_and_repeat_none(store: Store, user: str) -> None:
    for number in range(7):
        await store.save(new_delta(ContextKey(user, f"c{number}"), number))
    pages = []
    after = None
    while page := await store.contexts(user, after=after, limit=3):
        pages.append([summary.chat_id for summary in page])
        after = page[-1]
    assert [len(page) for page in pages] == [3, 3, 1]
    assert sorted(chat for page in pages for chat in page) == [f"c{number}" for number in range(7)]


async def test_a_page_of_no_size_is_refused(store: Store, user: str) -> None:
    for wrong in (-1, "3", None, 2**63):
        with pytest.raises(InvalidArgumentError, match="limit"):
            await store.contexts(user, limit=wrong)  # type: ignore[arg-type]


async def test_nobody_has_contexts_at_first(store: Store, user: str) -> None:
    assert list(await store.contexts(user)) == []


async def test_another_users_contexts_are_not_listed_where_the_store_knows_users(store: Store, user: str) -> None:
    await store.save(new_delta(ContextKey(user, "c1"), "a"))
    found = [summary.chat_id for summary in await store.contexts(f"{user}-other")]
    assert found == ([] if Feature.USERS in store.features else ["c1"])


async def test_a_summary_tells_when_and_how_often(store: Store, key: ContextKey) -> None:
    first = await store.save(new_delta(key, "a"))
    await store.save(new_delta(key, "b", base=first.base))
    (summary,) = await store.contexts(key.user_id)
    if Feature.REVISIONS in store.features:
        assert summary.revision == 2
        assert summary.created_at is not None
        assert summary.created_at <= summary.updated_at
    else:
        assert summary.revision is None
    assert summary.updated_at > 1_700_000_000


async def test_a_deleted_context_is_gone(store: Store, key: ContextKey) -> None:
    await store.save(new_delta(key, "a"))
    assert await store.delete(key)
    assert (await store.load(key)).revision == 0
    assert not await store.delete(key)
    assert list(await store.contexts(key.user_id)) == []


async def test_a_deleted_context_can_be_made_anew(store: Store, key: ContextKey) -> None:
    await store.save(new_delta(key, "a"))
    await store.delete(key)
    await store.save(new_delta(key, "b"))
    assert await stored(store, key) == ["b"]


async def test_deleting_one_context_leaves_its_neighbours(store: Store, user: str) -> None:
    await store.save(new_delta(ContextKey(user, "c1"), "a"))
    await store.save(new_delta(ContextKey(user, "c2"), "b"))
    await store.delete(ContextKey(user, "c1"))
    assert await stored(store, ContextKey(user, "c2")) == ["b"]


# Lifecycle.


async def test_a_closed_store_says_so(store: Store, key: ContextKey) -> None:
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
        await all_rows(store, key)


async def test_a_store_shows_where_it_is(store: Store) -> None:
    assert store.database_url in repr(store) or str(getattr(store, "folder", "")) in repr(store)


def _delta_of(key: ContextKey, update: ContextUpdate, **more: Any) -> Any:
    delta = new_delta(key, **more)
    return type(delta)(**{**{name: getattr(delta, name) for name in delta.__slots__}, "updates": [update]})
