"""Saves that share a transaction on SQLite stay each their own."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskctx_sql import ContextKey, ContextWriter, SqlStore, open_store
from taskctx_sql.errors import (
    ContextNotFoundError,
    LostContextError,
    StaleContextError,
    StoreClosedError,
    StoreFailedError,
    StoreUnavailableError,
)
from taskctx_sql.sql.backends.sqlite_backend import SqliteBackend
from taskctx_sql.sql.save import SaveRequest, group_commit, request
from tests.support.contract import expect_reload, loaded, new_delta, new_run, stored
from tests.support.sqlite_wire import Wire, commits
from tests.support.waiting import SOON

KEY = ContextKey("u", "c")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    async with open_store(f"sqlite:///{tmp_path}/x.db", retry_seconds=2) as opened:
        assert isinstance(opened, SqlStore)
        yield opened


async def test_saves_that_arrive_together_share_a_transaction(store: SqlStore, wire: Wire) -> None:
    await asyncio.gather(*(store.save(new_delta(ContextKey("u", str(number)), number)) for number in range(90)))
    assert wire.count_commits() < 10
    for number in range(90):
        assert await stored(store, ContextKey("u", str(number))) == [number]


async def test_a_single_save_waits_for_nobody(store: SqlStore, wire: Wire) -> None:
    base = None
    for number in range(3):
        base = (await store.save(new_delta(KEY, number, base=base))).base
    assert wire.count_commits() == 3


async def test_a_context_that_changed_meanwhile_is_saved_with_its_neighbors(store: SqlStore, wire: Wire) -> None:
    contexts = [await loaded(store, "u", str(number)) for number in range(3)]
    for context in contexts:
        context.add_context_update("message", "first")
        await context.save()
    await store.save(new_delta(contexts[1].key, "another writer's"))
    for context in contexts:
        context.add_context_update("message", "second")
        context.add_context_update("message", "third")
    assert await asyncio.gather(*(context.save() for context in contexts)) == [2, 3, 2]
    meanwhile = [[], ["another writer's"], []]
    for context, others in zip(contexts, meanwhile, strict=True):
        assert await stored(store, context.key) == ["first", *others, "second", "third"]
        assert [row.seq async for row in store.updates(context.key)] == [1, 2, 3, *range(4, 4 + len(others))]
    # One statement tried it, and then a transaction did it.
    assert wire.said[-1] == "COMMIT"


async def test_the_end_of_a_run_is_in_the_statement_of_its_updates(store: SqlStore, wire: Wire) -> None:
    writer = ContextWriter(store, KEY)
    await writer.write(updates=[("message", 1), ("message", 2)], outcome="failed", error="ValueError: no")
    assert wire.count_commits() == 1
    assert "COMMIT" not in wire.said
    (run,) = await store.reports.context_runs(KEY)
    assert (run.outcome, run.error, run.ended_at is None) == ("failed", "ValueError: no", False)


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_a_save_that_only_appends_and_fails_is_written_once(store: SqlStore, wire: Wire, fault: str) -> None:
    context = await loaded(store, "u")
    for step in range(3):
        context.add_context_update("message", step)
        context.add_context_update("message", -step)
        wire.faults = [fault]
        assert await context.save() == step + 1
        assert wire.faults == []
    assert await stored(store, context.key) == [0, 0, 1, -1, 2, -2]


async def test_an_answer_does_not_wait_for_the_next_group(store: SqlStore, wire: Wire) -> None:
    answered = threading.Event()
    waited: list[bool] = []
    wire.before_begin = lambda: waited.append(answered.wait(5)) if wire.count_commits() else None
    first, second = [asyncio.create_task(store.save(new_delta(ContextKey("u", each), each))) for each in "ab"]
    await first
    answered.set()
    await second
    assert waited == [True]


async def test_an_answer_does_not_wait_for_the_lock_of_the_next_group(
    store: SqlStore, wire: Wire, tmp_path: Path
) -> None:
    stranger = sqlite3.connect(tmp_path / "x.db", isolation_level=None, check_same_thread=False)

    def take_the_lock() -> None:
        wire.after_commit = lambda: None
        stranger.execute("BEGIN IMMEDIATE")

    wire.after_commit = take_the_lock
    first, second = [asyncio.create_task(store.save(new_delta(ContextKey("u", each), each))) for each in "ab"]
    await asyncio.wait_for(first, SOON)
    await asyncio.sleep(0.05)
    assert not second.done()
    stranger.execute("ROLLBACK")
    stranger.close()
    await second


async def test_saves_and_other_writes_take_turns(store: SqlStore, wire: Wire) -> None:
    ended: list[str] = []

    async def save(number: int) -> None:
        await store.save(new_delta(ContextKey("u", str(number)), number))
        ended.append("save")

    async def delete() -> None:
        await store.delete(ContextKey("u", "none"))
        ended.append("delete")

    await asyncio.gather(*(delete() for _ in range(60)), save(0))
    assert ended.index("save") < 10
    ended.clear()
    saving = [asyncio.create_task(save(number)) for number in range(20 * group_commit.MAX_GROUP)]
    for _ in range(3):
        await asyncio.sleep(0)
    await asyncio.gather(*saving, delete())
    assert ended.index("delete") < 5 * group_commit.MAX_GROUP


async def test_other_writes_are_made_on_the_thread_that_saves(store: SqlStore, wire: Wire) -> None:
    await store.save(new_delta(KEY, "a"))
    wire.take()
    new = await store.fork(KEY, "new")
    assert wire.take().count("COMMIT") == 1
    await store.delete(new)
    said = wire.take()
    assert (said[0], said[-1]) == ("BEGIN IMMEDIATE", "COMMIT")
    with pytest.raises(ContextNotFoundError):
        await store.fork(new, "another")
    assert wire.take()[-1] == "ROLLBACK"
    # On the same connection.
    await store.delete(KEY)
    assert not any(statement.startswith("PRAGMA journal_mode") for statement in wire.take())


@pytest.mark.parametrize("fault", ["before", "after"])
async def test_a_commit_of_another_write_that_fails_is_tried_again(store: SqlStore, wire: Wire, fault: str) -> None:
    await store.save(new_delta(KEY, "a"))
    wire.faults = [fault]
    await store.fork(KEY, "new")
    assert wire.faults == []
    assert await stored(store, ContextKey("u", "new")) == ["a"]


async def test_an_acknowledged_save_is_on_the_disk(store: SqlStore, wire: Wire) -> None:
    await store.save(new_delta(KEY, "a"))
    assert {"PRAGMA synchronous = FULL", "PRAGMA journal_mode = WAL", "PRAGMA busy_timeout = 2000"} <= set(wire.said)
    assert commits(wire.said[-1])


async def test_a_save_says_the_same_at_100_000_updates_as_at_none(store: SqlStore, wire: Wire) -> None:
    context = await loaded(store, "u")
    await context.save()

    async def step() -> list[str]:
        wire.take()
        context.add_context_update("message", "one more")
        await context.save()
        said = [re.split(r"[(=]", statement)[0] for statement in wire.take()]
        # A save that had to wait for the machine waits less for a lock.
        return [statement for statement in said if statement != "PRAGMA busy_timeout "]

    empty = await step()
    for number in range(100_000):
        context.add_context_update("message", number)
    await context.save()
    assert await step() == empty
    assert empty == ["INSERT INTO taskctx_appends VALUES "]


async def test_encoding_a_large_save_lets_others_have_the_loop() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    await asyncio.sleep(0)
    found = await SaveRequest.of(new_delta(KEY, *range(5000)), strict=False)
    counting.cancel()
    assert turns >= 5000 / request.SLICE - 2
    assert [row[2] for row in found.updates] == [str(number) for number in range(5000)]


async def test_a_save_that_fails_takes_no_neighbor_with_it(store: SqlStore) -> None:
    await store.save(new_delta(KEY, "first"))
    base = (await store.load(KEY)).base
    await store.save(new_delta(KEY, "second"))
    gone = await store.save(new_delta(ContextKey("u", "gone"), "x"))
    await store.delete(ContextKey("u", "gone"))
    answers = await asyncio.gather(
        store.save(new_delta(KEY, "one")),
        store.save(new_delta(KEY, "stale", base=base, if_unchanged=True)),
        store.save(new_delta(KEY, "two")),
        store.save(new_delta(ContextKey("u", "gone"), "lost", base=gone.base)),
        store.save(new_delta(KEY, "three")),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers[1::2]] == [StaleContextError, LostContextError]
    assert await stored(store, KEY) == ["first", "second", "one", "two", "three"]
    assert await stored(store, ContextKey("u", "gone")) == []
    assert [row.seq async for row in store.updates(KEY)] == [1, 2, 3, 4, 5]


async def test_copies_of_a_save_in_one_transaction_write_once(store: SqlStore) -> None:
    delta = new_delta(KEY, "a", run=new_run())
    answers = await asyncio.gather(*(store.save(delta) for _ in range(20)))
    assert len(set(answers)) == 1
    assert await stored(store, KEY) == ["a"]


@pytest.mark.parametrize("faults", [["before"], ["after"], ["after", "before", "after"]])
async def test_a_commit_that_fails_is_tried_again_and_written_once(
    store: SqlStore, wire: Wire, faults: list[str]
) -> None:
    contexts = [await loaded(store, "u", str(number)) for number in range(20)]
    for context in contexts:
        context.add_context_update("message", context.chat_id)
    wire.faults = list(faults)
    await asyncio.gather(*(context.save() for context in contexts))
    assert wire.faults == []
    for context in contexts:
        await expect_reload(store, context)
        assert await stored(store, context.key) == [context.chat_id]


async def test_a_damaged_file_is_not_tried_again(store: SqlStore, wire: Wire) -> None:
    wire.faults = ["corrupt"] * 50
    with pytest.raises(StoreFailedError, match="integrity_check"):
        await store.save(new_delta(KEY, "a"))
    assert len(wire.faults) == 49


async def test_a_commit_that_goes_on_failing_leaves_the_save_in_doubt(store: SqlStore, wire: Wire) -> None:
    context = await loaded(store, "u")
    context.add_context_update("message", "a")
    wire.faults = ["after", *["before"] * 50]
    with pytest.raises(StoreUnavailableError) as caught:
        await context.save()
    assert caught.value.outcome_unknown
    wire.faults = []
    context.add_context_update("message", "b")
    await context.save()
    assert await stored(store, context.key) == ["a", "b"]


async def test_closing_finishes_what_was_accepted(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    store = await open_store(url)
    assert isinstance(store, SqlStore)
    assert isinstance(store._backend, SqliteBackend)
    saves = [asyncio.create_task(store.save(new_delta(KEY, number))) for number in range(50)]
    for _ in range(1000):
        if store._backend.writer._thread is not None:
            break
        await asyncio.sleep(0)
    await asyncio.wait_for(store.close(), SOON)
    ends = await asyncio.gather(*saves, return_exceptions=True)
    written = [number for number, end in enumerate(ends) if not isinstance(end, BaseException)]
    assert written
    assert all(isinstance(end, StoreClosedError) for end in ends if isinstance(end, BaseException))
    async with open_store(url) as again:
        assert await stored(again, KEY) == written


async def test_a_cancelled_waiter_cancels_neither_the_others_nor_its_own_write(store: SqlStore) -> None:
    saves = [asyncio.create_task(store.save(new_delta(KEY, number))) for number in range(60)]
    await asyncio.sleep(0.001)
    for save in saves[::2]:
        save.cancel()
    ends = await asyncio.gather(*saves, return_exceptions=True)
    assert all(not isinstance(end, BaseException) for end in ends[1::2])
    found = await stored(store, KEY)
    assert set(range(1, 60, 2)) <= set(found)
    assert len(found) == len(set(found))


async def test_more_saves_than_may_wait_wait_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "MAX_WAITING", 3)
    async with open_store(f"sqlite:///{tmp_path}/x.db") as store:
        await asyncio.gather(*(store.save(new_delta(KEY, number)) for number in range(60)))
        assert sorted(await stored(store, KEY)) == list(range(60))


async def test_a_loop_that_ends_with_saves_under_way_hangs_nobody(tmp_path: Path) -> None:
    def run() -> None:
        async def main() -> None:
            store = await open_store(f"sqlite:///{tmp_path}/x.db")
            _ = [asyncio.create_task(store.save(new_delta(KEY, number))) for number in range(20)]
            await asyncio.sleep(0)
            await asyncio.get_running_loop().run_in_executor(None, lambda: None)
            await store.close()

        asyncio.run(main())

    thread = threading.Thread(target=run)
    thread.start()
    await asyncio.to_thread(thread.join, 30)
    assert not thread.is_alive()


async def test_the_log_is_written_back_after_16_mb(store: SqlStore, tmp_path: Path) -> None:
    file, log = tmp_path / "x.db", tmp_path / "x.db-wal"
    writer, megabyte = ContextWriter(store, KEY), 1_000_000
    for _ in range(10):
        await writer.write(updates=[("message", "x" * megabyte)])
    # SQLite would have done it after 4 MB by default.
    assert file.stat().st_size < megabyte
    for _ in range(20):
        await writer.write(updates=[("message", "x" * megabyte)])
    assert file.stat().st_size > 16 * megabyte
    assert log.stat().st_size < 20 * megabyte
