"""Small contexts are pruned and erased several in a transaction, each as a whole and by itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from taskctx_sql import ContextKey, SqlStore, open_store
from taskctx_sql.errors import StoreFailedError
from taskctx_sql.maintenance import erase, prune
from taskctx_sql.model import Retention
from taskctx_sql.sql import row_codec, small_contexts
from taskctx_sql.sql.maintenance import several
from taskctx_sql.sql.schema import tables
from tests.maintenance.contexts import DAY, NOW, chats, saved
from tests.support.contract import stored
from tests.support.rows import everything, rows_of
from tests.support.waiting import until

ALL = Retention(max_age=0)


async def fill(store: SqlStore, user: str, count: int) -> None:
    """Save contexts of eleven rows each."""
    for number in range(count):
        await saved(store, user, f"c{number:02}", at=NOW, count=4)


async def test_they_share_transactions_of_so_many_rows(database: SqlStore, user: str) -> None:
    await fill(database, user, 20)
    told: list[int] = []
    dry = await prune(database, ALL, user_id=user, now=NOW + DAY, dry_run=True, batch=45, progress=told.append)
    assert (dry.by_age, told[-1]) == (20, 20)
    assert len(await chats(database, user)) == 20
    told.clear()
    done = await prune(database, ALL, user_id=user, now=NOW + DAY, batch=45, progress=told.append)
    assert (done.by_age, done.rows) == (20, dry.rows)
    assert done.rows["taskctx_contexts"] == 20
    assert (told[-1], sorted(set(told))) == (20, told)
    assert not any((await everything(database, user)).values())
    if not database.is_distributed:
        # Four of them have 44 rows.
        assert (done.batches, told) == (5, [4, 8, 12, 16, 20])


async def test_of_the_smallest_there_are_so_many_in_a_transaction(
    database: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(database, user, 7)
    monkeypatch.setattr(small_contexts, "MOST_CONTEXTS", 3)
    done = await prune(database, ALL, user_id=user, now=NOW + DAY)
    assert done.by_age == 7
    if not database.is_distributed:
        assert done.batches == 3


async def test_a_large_one_between_small_ones_goes_in_batches_of_its_own(database: SqlStore, user: str) -> None:
    await fill(database, user, 4)
    await saved(database, user, "c01b", at=NOW, count=60)
    done = await prune(database, ALL, user_id=user, now=NOW + DAY, batch=50)
    assert (done.by_age, done.rows["taskctx_updates"]) == (5, 76)
    assert not any((await everything(database, user)).values())
    if not database.is_distributed:
        # The small ones before it and after it, a look at the large one, its hiding, and its 123 rows.
        assert 1 + 2 + 123 / 50 < done.batches <= 2 + 2 + 4


async def test_what_several_users_have_too_many_of_goes_together(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path}/x.db") as store:
        for user in ("a", "b", "c", "d"):
            for number in range(3):
                await saved(store, user, f"c{number}", at=NOW + number)
        for dry_run in (True, False):
            done = await prune(store, Retention(max_contexts=2), dry_run=dry_run)
            assert (done.by_count, done.rows["taskctx_updates"]) == (4, 12)
        assert done.batches == 1
        assert [await chats(store, user) for user in "abcd"] == [{"c1", "c2"}] * 4


async def test_more_than_a_page_of_a_users_contexts_goes(
    database: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taskctx_sql.sql.maintenance import pruner

    monkeypatch.setattr(pruner, "PAGE", 4)
    for number in range(11):
        await saved(database, user, f"c{number:02}", at=NOW - number)
    for dry_run in (True, False):
        done = await prune(database, Retention(max_contexts=2), user_id=user, dry_run=dry_run)
        assert done.by_count == 9
    assert await chats(database, user) == {"c00", "c01"}


@pytest.mark.parametrize("retention", [Retention(max_age=1), Retention(max_contexts=0)])
async def test_one_that_is_saved_to_meanwhile_stays_and_its_neighbours_go(
    database: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch, retention: Retention
) -> None:
    await fill(database, user, 6)
    base = (await database.load(ContextKey(user, "c03"))).base
    write = SqlStore.write_plan

    async def overtaken(store: SqlStore, doing: str, steps: Any, **more: Any) -> Any:
        monkeypatch.setattr(SqlStore, "write_plan", write)
        await saved(store, user, "c03", at=NOW + 1, count=1, base=base)
        return await write(store, doing, steps, **more)

    monkeypatch.setattr(SqlStore, "write_plan", overtaken)
    done = await prune(database, retention, user_id=user, now=NOW + DAY)
    assert (done.in_use, done.by_age + done.by_count) == (1, 5)
    assert await chats(database, user) == {"c03"}
    assert len(await stored(database, ContextKey(user, "c03"))) == 5
    assert len(await rows_of(database, tables.updates, user)) == 5


async def test_one_that_is_locked_holds_up_no_neighbour_and_a_save_in_progress_succeeds(
    postgres_url: str, user: str
) -> None:
    locked = row_codec.context_id(ContextKey(user, "c00"))
    async with open_store(postgres_url) as store:
        assert isinstance(store, SqlStore)
        await fill(store, user, 4)
        connection = await asyncpg.connect(postgres_url)
        try:
            async with connection.transaction():
                await connection.execute(
                    "UPDATE taskctx_contexts SET updated_at = $1 WHERE context_id = $2", NOW + 2 * DAY, locked
                )
                pruning = asyncio.create_task(prune(store, ALL, user_id=user, now=NOW + DAY))

                async def others_are_gone() -> bool:
                    return await chats(store, user) == {"c00"}

                await until(others_are_gone)
                assert not pruning.done()
            done = await pruning
        finally:
            await connection.close()
        assert (done.by_age, done.in_use) == (3, 1)
        assert len(await stored(store, ContextKey(user, "c00"))) == 4


async def test_one_that_is_gone_meanwhile_is_neither_removed_nor_in_use(
    database: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(database, user, 3)
    write = SqlStore.write_plan

    async def overtaken(store: SqlStore, doing: str, steps: Any, **more: Any) -> Any:
        monkeypatch.setattr(SqlStore, "write_plan", write)
        assert await store.delete(ContextKey(user, "c01"))
        return await write(store, doing, steps, **more)

    monkeypatch.setattr(SqlStore, "write_plan", overtaken)
    done = await prune(database, ALL, user_id=user, now=NOW + DAY)
    assert done.by_age == 2
    if not database.is_distributed:
        assert (done.in_use, done.rows["taskctx_contexts"]) == (0, 2)


@pytest.mark.parametrize("goes_on", ["prune", "erase"])
async def test_a_transaction_that_breaks_off_leaves_all_of_them_whole(
    database: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch, goes_on: str
) -> None:
    await fill(database, user, 5)
    before = await everything(database, user)
    if database.is_distributed:
        return

    def broken(*arguments: Any, **more: Any) -> Any:
        plan = remove(*arguments, **more)
        step = next(plan)
        for _ in range(4):
            step = plan.send((yield step))
        raise StoreFailedError("prune", "", "made for this test")

    remove = several.remove
    with monkeypatch.context() as patched:
        patched.setattr(several, "remove", broken)
        with pytest.raises(StoreFailedError):
            await prune(database, ALL, user_id=user, now=NOW + DAY)
    assert await everything(database, user) == before
    if goes_on == "prune":
        assert (await prune(database, ALL, user_id=user, now=NOW + DAY)).by_age == 5
    else:
        receipt = await erase(database, user)
        assert set(receipt.chats) == {f"c{number:02}" for number in range(5)}
        assert receipt.rows["taskctx_updates"] == 20
    assert not any((await everything(database, user)).values())


async def test_an_erasing_takes_what_was_saved_meanwhile_too(
    database: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(database, user, 3)
    base = (await database.load(ContextKey(user, "c01"))).base
    write = SqlStore.write_plan

    async def overtaken(store: SqlStore, doing: str, steps: Any, **more: Any) -> Any:
        monkeypatch.setattr(SqlStore, "write_plan", write)
        await saved(store, user, "c01", at=NOW + 1, count=1, base=base)
        return await write(store, doing, steps, **more)

    monkeypatch.setattr(SqlStore, "write_plan", overtaken)
    receipt = await erase(database, user)
    assert (set(receipt.chats), receipt.rows["taskctx_updates"]) == ({"c00", "c01", "c02"}, 13)
    assert not any((await everything(database, user)).values())


async def test_under_row_level_security_a_users_own_go_together(tenant_url: str, user: str) -> None:
    other = f"{user}-other"
    async with open_store(tenant_url) as store:
        assert isinstance(store, SqlStore)
        for whose in (user, other):
            await fill(store, whose, 5)
        done = await prune(store, ALL, user_id=user, now=NOW + DAY)
        assert (done.by_age, done.batches, done.rows["taskctx_updates"]) == (5, 1, 20)
        assert len(await chats(store, user)) == 0
        assert len(await chats(store, other)) == 5
        for number in range(5):
            assert len(await stored(store, ContextKey(other, f"c{number:02}"))) == 4
