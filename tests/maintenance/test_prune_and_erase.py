"""Pruning and erasing: old contexts, excess contexts, removed rows, and all data of a user."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from taskctx_sql import ContextKey, ContextUpdate, JsonStore, SqlStore, Store, blocking, open_store
from taskctx_sql.errors import (
    ContextNotFoundError,
    InvalidArgumentError,
    LostContextError,
    RevisionNotFoundError,
    StoreFailedError,
)
from taskctx_sql.maintenance import erase, prune, prune_periodically
from taskctx_sql.model import Delta, Retention
from taskctx_sql.settings import PRODUCTION_CONFIG
from taskctx_sql.sql.schema import tables
from tests.support.contract import loaded, new_run, stored
from tests.support.waiting import until
from tests.transfer.test_transfer import everything, rows_of

DAY = 86_400.0
NOW = 1_800_000_000.0


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[SqlStore]:
    """An open database of each kind in turn."""
    async with open_store(database_url) as store:
        assert isinstance(store, SqlStore)
        yield store


async def saved(store: Store, user: str, chat: str, *, at: float, count: int = 3, base: Any = None) -> Any:
    """Save updates, with a file and a model use each, at a time."""
    updates = [ContextUpdate(at, "message", number, {}) for number in range(count)]
    models = [{"model_id": "m", "provider_id": "p", "mode": "x", "timestamp": at} for _ in range(count)]
    delta = Delta(key=ContextKey(user, chat), run=new_run(), base=base, at=at, updates=updates, models=models)
    answer = await store.save(delta)
    if isinstance(store, JsonStore):
        path = store.folder / f"context_history_{chat}.json"
        os.utime(path, (at, at))
    return answer.base


async def chats(store: Store, user: str) -> set[str]:
    return {summary.chat_id for summary in await store.contexts(user)}


async def test_old_contexts_go_whole(store: Store, user: str) -> None:
    for days in (1, 29, 31, 400):
        await saved(store, user, f"c{days}", at=NOW - days * DAY)
    whose = None if isinstance(store, JsonStore) else user
    would = await prune(store, Retention(max_age=30 * DAY), user_id=whose, now=NOW, dry_run=True)
    assert await chats(store, user) == {"c1", "c29", "c31", "c400"}
    did = await prune(store, Retention(max_age=30 * DAY), user_id=whose, now=NOW)
    assert await chats(store, user) == {"c1", "c29"}
    assert (would.by_age, would.rows) == (did.by_age, did.rows)
    assert did.by_age == 2
    assert would.dry_run
    if isinstance(store, SqlStore):
        names = ("contexts", "updates", "models", "revisions", "runs")
        assert did.rows == {f"taskctx_{name}": number for name, number in zip(names, (2, 6, 6, 2, 2), strict=True)}
        assert len(await rows_of(store, tables.updates, user)) == 6
    assert (await prune(store, Retention(max_age=30 * DAY), user_id=whose, now=NOW)).by_age == 0


async def test_of_too_many_contexts_those_saved_last_stay(store: Store, user: str) -> None:
    for number in range(7):
        await saved(store, user, f"c{number}", at=NOW - number * DAY)
    whose = None if isinstance(store, JsonStore) else user
    would = await prune(store, Retention(max_contexts=4), user_id=whose, now=NOW, dry_run=True)
    did = await prune(store, Retention(max_contexts=4), user_id=whose, now=NOW)
    assert await chats(store, user) == {"c0", "c1", "c2", "c3"}
    assert would.by_count == did.by_count == 3
    assert (await prune(store, Retention(max_contexts=4), user_id=whose, now=NOW)).by_count == 0


async def test_both_limits_count_a_context_once(store: Store, user: str) -> None:
    for number in range(6):
        await saved(store, user, f"c{number}", at=NOW - number * DAY)
    whose = None if isinstance(store, JsonStore) else user
    for dry_run in (True, False):
        done = await prune(store, Retention(max_age=3.5 * DAY, max_contexts=2), user_id=whose, now=NOW, dry_run=dry_run)
        assert (done.by_age, done.by_count) == (2, 2)
    assert await chats(store, user) == {"c0", "c1"}


async def test_each_user_has_a_count_of_its_own(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path}/x.db") as store:
        for user in ("a", "b", "c"):
            for number in range(3):
                await saved(store, user, f"c{number}", at=NOW + number)
        await prune(store, Retention(max_contexts=2), user_id="a")
        assert [len(await chats(store, user)) for user in "abc"] == [2, 3, 3]
        assert (await prune(store, Retention(max_contexts=2))).by_count == 2
        assert [len(await chats(store, user)) for user in "abc"] == [2, 2, 2]


async def test_what_left_the_history_goes_and_nothing_else(database: SqlStore, user: str) -> None:
    context = await loaded(database, user)
    for number in range(30):
        context.add_context_update("message", number)
        context.track_file_operation(f"f{number % 4}", "read")
        context.track_model_usage(f"m{number}", "p", "x")
        if number % 10 == 9:
            await context.save()
    del context.context_history[3:50]
    del context.model_tracker[:5]
    await context.save()
    # A second removal, later than the time that is asked for.
    moment = (await database.contexts(user))[0].updated_at
    await asyncio.sleep(0.01)
    del context.context_history[0]
    await context.save()
    before = context.to_dict()
    all_rows = await everything(database, user)
    left_long_ago = Retention(removed_age=0)
    would = await prune(database, left_long_ago, user_id=user, now=moment, dry_run=True)
    assert await everything(database, user) == all_rows
    did = await prune(database, left_long_ago, user_id=user, now=moment, batch=3)
    assert did.rows == would.rows == {"taskctx_updates": 47, "taskctx_models": 5, "taskctx_files": 8}
    assert (await loaded(database, user)).to_dict() == before
    left = [row for row in await rows_of(database, tables.updates, user) if row[8] is not None]
    assert len(left) == 1
    assert (await prune(database, left_long_ago, user_id=user)).rows == {"taskctx_updates": 1}
    # And the history goes on.
    context.add_context_update("message", "more")
    await context.save()
    assert (await stored(database, ContextKey(user, "c1")))[-1] == "more"


async def test_a_slow_clock_makes_nothing_older(database: SqlStore, user: str) -> None:
    key = ContextKey(user, "c")
    context = await loaded(database, user, "c")
    for number in range(3):
        context.add_context_update("message", number)
    context.track_file_operation("f", "read")
    await context.save()
    del context.context_history[0]
    context.track_file_operation("f", "write")
    await context.save()
    now = time.time()
    # The short way, and statement by statement.
    base = (await database.load(key)).base
    base = await saved(database, user, "c", at=now - 100 * DAY, count=1, base=base)
    delta = Delta(
        key=key, run=new_run(), base=base, at=now - 200 * DAY, removed_updates=[2], models=[{"model_id": "n"}]
    )
    await database.save(delta)
    for retention in (Retention(removed_age=3600), Retention(max_age=90 * DAY)):
        assert (await prune(database, retention, user_id=user)).rows == {}
    assert [row.update.data for row in (await database.load(key, revision=1)).updates][:3] == [0, 1, 2]
    # It goes when the good clock says so.
    await prune(database, Retention(removed_age=3600), user_id=user, now=now + 2 * 3600)
    assert len([row for row in await rows_of(database, tables.updates, user) if row[8] is not None]) == 0
    with pytest.raises(RevisionNotFoundError):
        await database.load(key, revision=1)


@pytest.mark.parametrize("restores", [1, 3])
async def test_a_writer_that_knows_an_entry_from_before_a_restore_can_still_remove_and_edit_it(
    database: SqlStore, user: str, restores: int
) -> None:
    context = await loaded(database, user)
    for number in range(6):
        context.add_context_update("message", number)
        context.track_model_usage(f"m{number}", "p", "x")
    await context.save()
    stale = []
    for turn in range(restores):
        # What comes after the second is written anew each time.
        del context.context_history[1]
        del context.model_tracker[1]
        await context.save()
        stale.append(await loaded(database, user))
        await context.restore(1)
        if turn + 1 < restores:
            stale.append(await loaded(database, user))
    await prune(database, Retention(removed_age=0), user_id=user, now=time.time() + 60)
    for number, writer in enumerate(stale):
        position = next(at for at, update in enumerate(writer.context_history) if update.data == 3)
        if number == 0:
            del writer.context_history[position]
            writer.model_tracker[:] = [entry for entry in writer.model_tracker if entry["model_id"] != "m4"]
        else:
            writer.context_history[-1].data = f"edited {number}"
        await writer.save()
    found = await loaded(database, user)
    assert 3 not in [update.data for update in found.context_history]
    assert "m4" not in [entry["model_id"] for entry in found.model_tracker]
    assert len([update for update in found.context_history if update.update_type == "message"]) == 5
    # What left for good goes for good.
    await prune(database, Retention(removed_age=0), user_id=user, now=time.time() + 60)
    assert "m4" not in [row[2] for row in await rows_of(database, tables.models, user)]


async def test_a_large_context_goes_in_bounded_batches(database: SqlStore, user: str) -> None:
    base = None
    for turn in range(5):
        base = await saved(database, user, "c", at=NOW + turn, count=40, base=base)
    done = await prune(database, Retention(max_age=0), user_id=user, now=NOW + DAY, batch=25)
    assert done.rows["taskctx_updates"] == 200
    # 410 rows belong to it, and a batch takes 25.
    assert 410 / 25 < done.batches < 20
    assert done.longest > 0
    assert not any((await everything(database, user)).values())


async def test_a_context_that_is_saved_to_meanwhile_stays(
    database: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = await saved(database, user, "c", at=NOW - DAY, count=50)
    write = SqlStore.write_plan
    writes = 0

    async def overtaken(store: SqlStore, doing: str, steps: Any, **more: Any) -> Any:
        nonlocal writes
        writes += 1
        if writes == 2:
            # Until it is hidden, all of it stays.
            await saved(store, user, "c", at=NOW, count=1, base=base)
        return await write(store, doing, steps, **more)

    monkeypatch.setattr(SqlStore, "write_plan", overtaken)
    done = await prune(database, Retention(max_age=1), user_id=user, now=NOW, batch=10)
    assert (done.in_use, done.by_age) == (1, 0)
    assert len(await stored(database, ContextKey(user, "c"))) == 51


async def test_nobody_sees_half_of_a_context_that_is_being_removed(
    database: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = await saved(database, user, "c", at=NOW, count=50)
    await saved(database, user, "c", at=NOW + 1, count=1, base=base)
    key = ContextKey(user, "c")
    write = SqlStore.write_plan
    seen = []

    async def looked_at(store: SqlStore, doing: str, steps: Any, **more: Any) -> Any:
        answer = await write(store, doing, steps, **more)
        seen.append(len(await stored(store, key)))
        with contextlib.suppress(ContextNotFoundError):
            seen.append(len((await store.load(key, revision=2)).updates))
        assert (await chats(store, user) == {"c"}) == (seen[-1] == 51)
        return answer

    monkeypatch.setattr(SqlStore, "write_plan", looked_at)
    await prune(database, Retention(max_age=1), user_id=user, now=NOW + DAY, batch=10)
    assert len(seen) > 6
    assert set(seen) == {51, 0}
    assert sorted(seen, reverse=True) == seen


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("made_anew", [False, True])
async def test_reading_page_by_page_never_goes_on_in_half_a_context_or_in_another_one(
    database: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch, made_anew: bool, newest_first: bool
) -> None:
    context = await loaded(database, user, "c")
    for number in range(1200):
        context.add_context_update("message", number)
    await context.save()
    reading = database.updates(context.key, newest_first=newest_first)
    assert (await anext(reading)).update.data == (1199 if newest_first else 0)
    write = SqlStore.write_plan
    writes = 0

    async def failing(store: SqlStore, doing: str, steps: Any, **more: Any) -> Any:
        nonlocal writes
        writes += 1
        if writes == 4:
            raise KeyboardInterrupt
        return await write(store, doing, steps, **more)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(SqlStore, "write_plan", failing)
        await erase(database, user, "c", batch=100)
    if made_anew:
        other = await loaded(database, user, "c")
        for _ in range(1200):
            other.add_context_update("message", "another")
        await other.save()
    seen = []
    with pytest.raises(ContextNotFoundError):
        async for row in reading:
            seen.append(row.update.data)
    assert len(seen) == 499
    assert "another" not in seen


@pytest.mark.parametrize("goes_on", ["save", "open", "fork", "prune", "erase", "delete"])
async def test_an_erasing_that_breaks_off_leaves_nothing_to_see_and_room_for_a_new_context(
    database: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch, goes_on: str
) -> None:
    other = await loaded(database, user, "other")
    other.add_context_update("message", "other")
    await other.save()
    context = await loaded(database, user, "c")
    for number in range(60):
        context.add_context_update("message", number)
        context.track_file_operation(f"f{number}", "read")
    context.metadata["secret"] = "gone"
    await context.save()
    write = SqlStore.write_plan
    writes = 0

    async def failing(store: SqlStore, doing: str, steps: Any, **more: Any) -> Any:
        nonlocal writes
        writes += 1
        if writes == 4:
            raise KeyboardInterrupt
        return await write(store, doing, steps, **more)

    with monkeypatch.context() as patched:
        patched.setattr(SqlStore, "write_plan", failing)
        with pytest.raises(KeyboardInterrupt):
            await erase(database, user, "c", batch=10)
    key = context.key
    assert (await database.load(key)).revision == 0
    assert await chats(database, user) == {"other"}
    for refused in (database.revisions(key), database.load(key, revision=1), database.difference(key, 1, 1)):
        with pytest.raises(ContextNotFoundError):
            await refused
    with pytest.raises(ContextNotFoundError):
        await database.fork(key, "d")
    assert [row async for row in database.updates(key)] == []
    if goes_on == "open":
        # A program that still has it.
        context.add_context_update("message", "late")
        with pytest.raises(LostContextError):
            await context.save()
    elif goes_on == "fork":
        await other.fork("c")
        assert await stored(database, key) == ["other"]
    elif goes_on == "save":
        fresh = await loaded(database, user, "c")
        fresh.add_context_update("message", "new")
        fresh.track_file_operation("f1", "write")
        await fresh.save()
        found = await loaded(database, user, "c")
        assert found.revision == 1
        assert list(found.file_tracker) == ["f1"]
        assert found.metadata == {}
        assert found.context_history[0].data == "new"
        assert len(await rows_of(database, tables.updates, user)) == 3
    elif goes_on == "delete":
        assert not await database.delete(key)
    elif goes_on == "prune":
        await prune(database, Retention(max_age=DAY), user_id=user)
    else:
        await erase(database, user, "c")
    if goes_on in ("prune", "erase", "delete"):
        assert len(await rows_of(database, tables.contexts, user)) == 1
        assert len(await rows_of(database, tables.updates, user)) == 1


@pytest.mark.wide
async def test_writers_get_their_turn_while_much_is_removed(database: SqlStore, user: str) -> None:
    for number in range(4):
        await saved(database, user, f"old{number}", at=NOW, count=3_000)
    job = asyncio.create_task(prune(database, Retention(max_age=0), user_id=user, now=NOW + DAY, batch=500))
    saves, base = 0, None
    while not job.done():
        base = await saved(database, user, "new", at=NOW + 2 * DAY, count=1, base=base)
        saves += 1
    done = await job
    assert done.by_age == 4
    assert saves > 10
    assert len(await stored(database, ContextKey(user, "new"))) == saves


async def test_a_file_that_is_saved_to_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from taskctx_sql.json_files import remove
    from taskctx_sql.locations import folders

    store = JsonStore(tmp_path / "tasks")
    await saved(store, "u", "c", at=NOW - DAY)
    lock = folders.folder_lock

    def late(folder: Path, *more: Any) -> Any:
        os.utime(folder / "context_history_c.json", (NOW, NOW))
        return lock(folder, *more)

    monkeypatch.setattr(remove, "folder_lock", late)
    assert (await prune(store, Retention(max_age=1), now=NOW)).in_use == 1
    assert await chats(store, "u") == {"c"}


async def test_a_file_that_is_gone_meanwhile_ends_no_pruning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from taskctx_sql.json_files import remove
    from taskctx_sql.locations import folders

    store = JsonStore(tmp_path / "tasks")
    for chat in ("a", "b", "c"):
        await saved(store, "u", chat, at=NOW - DAY)
    lock = folders.folder_lock

    def late(folder: Path, *more: Any) -> Any:
        (folder / "context_history_b.json").unlink(missing_ok=True)
        return lock(folder, *more)

    monkeypatch.setattr(remove, "folder_lock", late)
    done = await prune(store, Retention(max_age=1), now=NOW)
    assert (done.by_age, done.in_use) == (2, 1)
    assert await chats(store, "u") == set()


async def test_a_user_is_erased_from_every_table_with_a_receipt(database: SqlStore, user: str) -> None:
    for chat in ("a", "b"):
        await saved(database, user, chat, at=NOW)
    await saved(database, f"{user}-other", "a", at=NOW)
    context = await loaded(database, user, "a")
    receipt = await erase(database, user, batch=2)
    assert set(receipt.chats) == {"a", "b"}
    assert (receipt.user_id, receipt.chat_id, receipt.rows["taskctx_updates"]) == (user, None, 6)
    assert not any((await everything(database, user)).values())
    assert len(await rows_of(database, tables.updates, f"{user}-other")) == 3
    found = await database.query(sa.select(tables.updates).where(tables.updates.c.run_id == context.key.user_id))
    assert not found
    context.add_context_update("message", "late")
    with pytest.raises(LostContextError):
        await context.save()
    assert (await erase(database, user)).chats == ()


async def test_one_context_is_erased(store: Store, user: str) -> None:
    for chat in ("a", "b"):
        await saved(store, user, chat, at=NOW)
    if isinstance(store, JsonStore):
        (store.folder / "context_history_a.json.unreadable-1").write_text("broken")
    receipt = await erase(store, user, "a")
    assert receipt.chats == ("a",)
    assert await chats(store, user) == {"b"}
    if isinstance(store, JsonStore):
        assert receipt.rows["files"] == 2
        assert [path.name for path in store.folder.iterdir()] == ["context_history_b.json"]
        with pytest.raises(InvalidArgumentError, match="chat_id=None"):
            await erase(store, user)
    assert (await erase(store, user, "nobody")).chats == ()


async def test_a_store_is_pruned_periodically_while_it_is_open(store: Store, user: str) -> None:
    async def is_empty() -> bool:
        return not await chats(store, user)

    for chat in ("c0", "c1", "c2"):
        await saved(store, user, chat, at=time.time() - 10 * DAY)
    async with prune_periodically(store, Retention(max_age=9 * DAY), interval=0.01):
        await until(is_empty)
        await saved(store, user, "again", at=time.time() - 10 * DAY)
        await until(is_empty)
    assert await chats(store, user) == set()
    await saved(store, user, "later", at=time.time() - 10 * DAY)
    await asyncio.sleep(0.05)
    assert await chats(store, user) == {"later"}


async def test_a_failed_prune_is_logged_and_repeated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(f"sqlite:///{tmp_path}/x.db") as store:
        await saved(store, "u", "c", at=time.time() - DAY)
        read = SqlStore.read
        failures = 0

        async def failing(self: SqlStore, doing: str, steps: Any, **more: Any) -> Any:
            nonlocal failures
            failures += 1
            if failures == 1:
                raise StoreFailedError("list", self.database_url, "made for this test")
            return await read(self, doing, steps, **more)

        monkeypatch.setattr(SqlStore, "read", failing)
        with caplog.at_level(logging.ERROR, "taskctx_sql"):
            async with prune_periodically(store, Retention(max_age=0), interval=0.01):
                with closing(sqlite3.connect(tmp_path / "x.db")) as reader:
                    await until(lambda: reader.execute("SELECT count(*) FROM taskctx_contexts").fetchone() == (0,))
        assert "made for this test" in caplog.text
        assert await chats(store, "u") == set()


async def test_a_store_with_a_retention_prunes_itself(address: str, user: str) -> None:
    async with open_store(address) as store:
        await saved(store, user, "c", at=time.time() - 10_000 * DAY)
    # So old that nothing else in a shared database is.
    async with open_store(address, retention=Retention(max_age=9_000 * DAY), cleanup_interval=0.01) as store:

        async def is_empty() -> bool:
            return not await chats(store, user)

        await until(is_empty)
    with pytest.raises(InvalidArgumentError, match="entered with"):
        await open_store(address, retention=Retention(max_age=1))
    with pytest.raises(InvalidArgumentError, match="cleanup_interval=0"):
        open_store(address, retention=Retention(max_age=1), cleanup_interval=0)


def test_a_store_is_pruned_periodically_from_sync_code(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    with open_store(url) as store:
        blocking(saved(store, "u", "c", at=time.time() - 10 * DAY))
    with open_store(url, retention=Retention(max_age=DAY), cleanup_interval=60) as store:

        async def is_empty() -> bool:
            return not await chats(store, "u")

        blocking(until(is_empty))


def test_a_retention_says_what_is_wrong_with_it() -> None:
    assert Retention.of_preset(PRODUCTION_CONFIG) == Retention(max_contexts=100)
    with pytest.raises(InvalidArgumentError, match="at least one limit"):
        Retention()
    with pytest.raises(InvalidArgumentError, match="max_age=-1"):
        Retention(max_age=-1)


async def test_a_cancellation_while_periodic_pruning_ends_is_raised(database: SqlStore) -> None:
    async def keep() -> None:
        async with prune_periodically(database, Retention(max_age=1), interval=1000):
            await asyncio.sleep(0)

    task = asyncio.create_task(keep())
    # By then the block is through, and a batch is still under way.
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
