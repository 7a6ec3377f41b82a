"""Group commit on both engines: saves share a transaction, and each succeeds or fails by itself."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql import ContextKey, SqlStore, open_store
from taskctx_sql.errors import LostContextError, SaveRefusedError, StaleContextError, StoreClosedError, StoreFailedError
from taskctx_sql.model import Delta, FileChange, Saved
from taskctx_sql.sql import engines, row_codec
from taskctx_sql.sql.backends import Backend
from taskctx_sql.sql.save import group_commit, postgres_writer
from taskctx_sql.sql.save.group_commit import WaitingSave
from taskctx_sql.sql.schema import tables
from tests.conftest import ENGINES, connection_of
from tests.support.contract import expect_reload, loaded, new_delta, new_run, stored
from tests.support.waiting import SOON


@pytest.fixture(params=ENGINES[:2])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Not on Citus: there only saves to one machine share a call, as its own tests show."""
    return connection_of(request.param, tmp_path, request).address


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[SqlStore]:
    async with open_store(database_url, retry_seconds=5) as opened:
        assert isinstance(opened, SqlStore)
        assert type(opened._backend) is not Backend
        yield opened


def keys(user: str, count: int) -> list[ContextKey]:
    return [ContextKey(user, f"c{number}") for number in range(count)]


async def first_saved(store: SqlStore, key: ContextKey) -> Saved:
    """The answer to a context's first save."""
    return await store.save(new_delta(key, "first"))


async def test_a_save_that_is_refused_takes_no_neighbor_with_it(store: SqlStore, user: str) -> None:
    stale, gone, *others = keys(user, 12)
    seen = await first_saved(store, stale)
    await store.save(new_delta(stale, "second"))
    lost = await first_saved(store, gone)
    await store.delete(gone)
    bases = [(await first_saved(store, key)).base for key in others]
    saves = [store.save(new_delta(key, "next", base=base)) for key, base in zip(others, bases, strict=True)]
    saves[3:3] = [
        store.save(new_delta(stale, "stale", base=seen.base, if_unchanged=True)),
        store.save(new_delta(gone, "lost", base=lost.base)),
    ]
    answers = await asyncio.gather(*saves, return_exceptions=True)
    assert [type(answer) for answer in answers[3:5]] == [StaleContextError, LostContextError]
    assert [type(answer) for answer in answers[:3] + answers[5:]] == [Saved] * 10
    for key in others:
        assert await stored(store, key) == ["first", "next"]
    assert await stored(store, stale) == ["first", "second"]
    assert await stored(store, gone) == []


async def refuse_rows_of(engine: AsyncEngine, key: ContextKey) -> str:
    """Make the database itself refuse a context's updates, as a full disk or a stranger's trigger would."""
    context_id = row_codec.context_id(key)
    name = f"taskctx_refuse_{context_id[:8]}"
    if engine.dialect.name == "sqlite":
        statements = [
            f"CREATE TRIGGER {name} BEFORE INSERT ON taskctx_updates WHEN new.context_id = '{context_id}' "
            "BEGIN SELECT raise(ABORT, 'refused'); END"
        ]
    else:
        statements = [
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.context_id = '{context_id}' "
            "THEN RAISE 'refused' USING ERRCODE = '23514'; END IF; RETURN new; END $$",
            f"CREATE TRIGGER {name} BEFORE INSERT ON taskctx_updates FOR EACH ROW EXECUTE FUNCTION {name}()",
        ]
    async with engine.begin() as connection:
        for statement in statements:
            await connection.exec_driver_sql(statement)
    return name


async def refuse_no_more(engine: AsyncEngine, name: str) -> None:
    async with engine.begin() as connection:
        on = "" if engine.dialect.name == "sqlite" else " ON taskctx_updates"
        await connection.exec_driver_sql(f"DROP TRIGGER {name}{on}")


async def test_a_save_that_the_database_refuses_takes_no_neighbor_with_it(
    store: SqlStore, engine: AsyncEngine, user: str
) -> None:
    bad, *others = keys(user, 10)
    contexts = [await loaded(store, user, key.chat_id) for key in (bad, *others)]
    for context in contexts:
        await context.save()
    name = await refuse_rows_of(engine, bad)
    try:
        for context in contexts:
            context.add_context_update("message", context.chat_id)
        ends = await asyncio.gather(*(context.save() for context in contexts), return_exceptions=True)
        assert isinstance(ends[0], StoreFailedError)
        assert "refused" in str(ends[0])
        assert ends[1:] == [2] * 9
        assert contexts[0].has_unsaved_changes
    finally:
        await refuse_no_more(engine, name)
    await contexts[0].save()
    for context in contexts:
        assert await stored(store, context.key) == [context.chat_id]


async def test_a_save_that_is_refused_does_not_keep_the_answer_of_another(
    store: SqlStore, engine: AsyncEngine, user: str
) -> None:
    """Answers of one group are given while the next is on its way."""
    bad, good = [await loaded(store, user, name) for name in ("bad", "good")]
    for context in (bad, good):
        await context.save()
    name = await refuse_rows_of(engine, bad.key)
    try:
        bad.add_context_update("message", "never")
        for number in range(20):
            good.add_context_update("message", number)
            saving = asyncio.create_task(good.save())
            # So that it is on its way already, more or less far.
            await asyncio.sleep(number * 0.00002)
            ends = await asyncio.wait_for(asyncio.gather(saving, bad.save(), return_exceptions=True), SOON)
            assert [type(end) for end in ends] == [int, SaveRefusedError]
    finally:
        await refuse_no_more(engine, name)
    assert await stored(store, good.key) == list(range(20))


async def test_copies_of_a_save_that_arrive_together_write_once(store: SqlStore, user: str) -> None:
    key = ContextKey(user, "c")
    first = new_delta(key, "a", run=new_run(), files=[FileChange("f", {"operation": "read"}, None)])
    answers = await asyncio.gather(*(store.save(first) for _ in range(20)))
    assert len(set(answers)) == 1
    again = new_delta(key, "b", run=first.run.next_save(), base=answers[0].base, models=[{"model_id": "m"}])
    answers = await asyncio.gather(*(store.save(again) for _ in range(20)))
    assert len(set(answers)) == 1
    found = await store.load(key)
    assert ([row.update.data for row in found.updates], len(found.files), len(found.models)) == (["a", "b"], 1, 1)


async def test_a_file_that_several_write_to_has_one_version_at_a_time(
    store: SqlStore, user: str, database_url: str
) -> None:
    async with open_store(database_url) as other:
        first = await loaded(store, user)
        first.track_file_operation("shared", "first")
        await first.save()

        async def writer(number: int) -> None:
            context = await loaded((store, other)[number % 2], user)
            for turn in range(12):
                context.track_file_operation("shared", f"{number}-{turn}")
                context.track_file_operation(f"own{number}", f"{turn}")
                await context.save()

        await asyncio.gather(*(writer(number) for number in range(6)))
    table = tables.files
    found = await store.query(
        sa.select(table.c.path, table.c.added_in, table.c.removed_in)
        .where(table.c.context_id == row_codec.context_id(first.key))
        .order_by(table.c.path, table.c.added_in)
    )
    for _, versions in itertools.groupby(found, key=lambda row: row[0]):
        ends = [(begins, ends) for _, begins, ends in versions]
        assert [end for _, end in ends] == [*(begin for begin, _ in ends[1:]), None]
    await first.load()
    newest = first.revision
    first.track_file_operation("shared", "last")
    await first.save()
    for revision in (newest, newest - 20, 2):
        await first.restore(revision)
    assert (await store.load(first.key, revision=2)).files == (await store.load(first.key)).files


async def test_blind_retries_of_several_writers_write_each_save_once(
    store: SqlStore, user: str, database_url: str
) -> None:
    """6 writers on 3 contexts; each of their saves is sent one to three times at once, through two stores."""
    chance = random.Random(7)
    shared = keys(user, 3)
    async with open_store(database_url) as other:

        async def writer(number: int) -> list[tuple[ContextKey, Any, Saved]]:
            key = shared[number % 3]
            run = new_run(saves=0)
            base: Any = None
            written = []
            for save in range(25):
                run = run.next_save()
                delta = new_delta(key, [number, save], base=base, run=run, models=[{"model_id": f"{number}"}])
                copies = [store, *([other, store][: chance.randrange(3)])]
                answers = await asyncio.gather(*(copy.save(delta) for copy in copies))
                assert len({(answer.revision, answer.first_seq, answer.first_model) for answer in answers}) == 1
                base = answers[0].base
                written.append((key, [number, save], answers[0]))
            return written

        written = [entry for entries in await asyncio.gather(*map(writer, range(6))) for entry in entries]
    for key in shared:
        found = await store.load(key)
        assert list(found.seqs) == list(range(1, 51))
        assert len(found.models) == 50
        by_seq = {row.seq: row.update.data for row in found.updates}
        for its_key, data, answer in written:
            if its_key == key:
                assert by_seq[answer.first_seq] == data


async def test_saves_of_one_context_are_written_in_the_order_of_their_coming(store: SqlStore, user: str) -> None:
    key, other = keys(user, 2)
    bases = [(await first_saved(store, each)).base for each in (key, other)]
    deltas: list[Delta] = []
    for number in range(40):
        deltas.append(new_delta((key, other)[number % 2], number, base=bases[number % 2]))
    await asyncio.gather(*map(store.save, deltas))
    assert await stored(store, key) == ["first", *range(0, 40, 2)]
    assert await stored(store, other) == ["first", *range(1, 40, 2)]


async def test_no_more_saves_wait_than_there_is_room_for(
    database_url: str, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MAX_WAITING", 5)
    most = now = 0
    wait = WaitingSave.wait

    async def counted(save: WaitingSave[Any]) -> Any:
        nonlocal most, now
        now += 1
        most = max(most, now)
        try:
            return await wait(save)
        finally:
            now -= 1

    monkeypatch.setattr(WaitingSave, "wait", counted)
    async with open_store(database_url) as store:
        await asyncio.gather(*(store.save(new_delta(key, 1)) for key in keys(user, 60)))
        for key in keys(user, 60):
            assert await stored(store, key) == [1]
    assert most == 5


async def test_a_cancelled_waiter_cancels_neither_the_others_nor_its_own_write(
    store: SqlStore, engine: AsyncEngine, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not given up before the stranger's transaction ends, however slow the machine.
    monkeypatch.setattr("taskctx_sql.concurrency.promise.CANCEL_SECONDS", 60)
    monkeypatch.setattr("taskctx_sql.concurrency.cancellation.CANCEL_SECONDS", 60)
    all_keys, waiting, all_wait = keys(user, 20), 0, asyncio.Event()
    # On Postgres a group waits for no lock: each of its saves is then written alone.
    where, name = (postgres_writer, "finished") if engine.dialect.name == "postgresql" else (WaitingSave, "wait")
    wait = getattr(where, name)

    def counted(waited: Any) -> Any:
        nonlocal waiting
        waiting += 1
        if waiting == len(all_keys):
            all_wait.set()
        return wait(waited)

    monkeypatch.setattr(where, name, counted)
    async with engines.transaction(engine, write=True) as stranger:
        if engine.dialect.name == "postgresql":
            await stranger.exec_driver_sql("LOCK TABLE taskctx_updates IN ACCESS EXCLUSIVE MODE")
        saves = [asyncio.create_task(store.save(new_delta(key, 1))) for key in all_keys]
        async with asyncio.timeout(60):
            await all_wait.wait()
        for save in saves[::2]:
            save.cancel()
            # A second cancellation changes nothing.
            await asyncio.sleep(0)
            save.cancel()
        done, _ = await asyncio.wait(saves, timeout=0.2)
        assert not done, "a save that is under way was given up"
    ends = await asyncio.gather(*saves, return_exceptions=True)
    assert [type(end) for end in ends] == [asyncio.CancelledError, Saved] * 10
    for key in all_keys:
        assert await stored(store, key) == [1]


async def test_a_cancelled_save_of_a_context_can_be_saved_again(store: SqlStore, user: str) -> None:
    chance = random.Random(3)
    context = await loaded(store, user)
    for number in range(40):
        context.add_context_update("message", number)
        save = asyncio.create_task(context.save())
        await asyncio.sleep(chance.random() * 0.003)
        save.cancel()
        await asyncio.gather(save, return_exceptions=True)
    await context.save()
    assert await stored(store, context.key) == list(range(40))
    await expect_reload(store, context)


async def test_closing_finishes_what_was_accepted(database_url: str, user: str) -> None:
    store = await open_store(database_url)
    all_keys = keys(user, 50)
    saves = [asyncio.create_task(store.save(new_delta(key, 1))) for key in all_keys]
    await asyncio.sleep(0.001)
    await asyncio.wait_for(store.close(), SOON)
    ends = await asyncio.gather(*saves, return_exceptions=True)
    assert any(isinstance(end, Saved) for end in ends)
    assert all(isinstance(end, Saved | StoreClosedError) for end in ends)
    async with open_store(database_url) as again:
        for key, end in zip(all_keys, ends, strict=True):
            assert await stored(again, key) == ([1] if isinstance(end, Saved) else [])
