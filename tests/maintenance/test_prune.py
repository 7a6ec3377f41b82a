"""Pruning: contexts that are too old or too many go whole, of the others what left their history."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from taskctx_sql import ContextKey, JsonStore, SqlStore, Store, open_store
from taskctx_sql.errors import RevisionNotFoundError
from taskctx_sql.maintenance import prune
from taskctx_sql.model import Delta, Retention
from taskctx_sql.sql.schema import tables
from tests.maintenance.contexts import DAY, NOW, chats, saved
from tests.support.contract import loaded, new_run, stored
from tests.support.rows import everything, rows_of


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
