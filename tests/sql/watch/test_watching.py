"""Watching a context: every committed update, whoever saves it, once and in order; and no task or thread remains."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from taskctx_sql import ContextKey, Feature, SqlStore, Store, TaskContext, blocking, open_store
from taskctx_sql.errors import (
    ContextNotFoundError,
    InvalidArgumentError,
    InvalidIdError,
    StoreClosedError,
    StoreUnavailableError,
    UnsupportedByStoreError,
)
from taskctx_sql.model import StoredUpdate
from taskctx_sql.sql import engines, watch
from taskctx_sql.sql.plan import Plan
from taskctx_sql.sql.watch import Notifier, Subscriptions
from taskctx_sql.sql.watch.notifier import MAX_IDS, decode_payload, encode_payload
from tests.conftest import DATABASES, Opener, wide
from tests.support.connections import KINDS, with_driver
from tests.support.contract import loaded, new_delta, stored
from tests.support.postgres import Server, new_database

PATIENCE = 60
Updates = AsyncGenerator[StoredUpdate, None]

# A program of its own that saves as fast as it can.
WRITER = """
import asyncio, sys
from taskctx_sql import TaskContext, open_store

async def main(url, schema, user, name, saves):
    async with open_store(url, schema=schema or None) as store:
        context = TaskContext({"user_id": user, "chat_id": "c1"}, store=store)
        await context.load()
        for number in range(int(saves)):
            context.add_context_update("message", [name, number])
            await context.save()

asyncio.run(main(*sys.argv[1:]))
"""


async def saved(store: Store, user: str, *datas: Any) -> TaskContext:
    """A context with these updates, each saved by itself."""
    context = await loaded(store, user)
    for data in datas:
        context.add_context_update("message", data)
        await context.save()
    return context


async def take(updates: Updates, count: int) -> list[StoredUpdate]:
    """The next updates, within the time limit."""
    async with asyncio.timeout(PATIENCE):
        return [await anext(updates) for _ in range(count)]


async def waits(updates: Updates) -> asyncio.Task[StoredUpdate]:
    """The next update, which is not saved yet."""

    async def next_one() -> StoredUpdate:
        return (await take(updates, 1))[0]

    coming = asyncio.create_task(next_one())
    await asyncio.sleep(0.2)
    assert not coming.done()
    return coming


def listening_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "taskctx-listener"]


async def cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.fixture(params=["asyncpg", *wide("psycopg")])
def listening_url(request: pytest.FixtureRequest, postgres_url: str) -> str:
    """The address of a Postgres for each driver."""
    return with_driver(f"postgresql+{request.param}", postgres_url)


@pytest.fixture(params=DATABASES)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of store that can be watched."""
    return str(request.param)


@pytest.fixture
def only_notifications(monkeypatch: pytest.MonkeyPatch) -> float:
    """A poll interval with which nobody polls."""
    monkeypatch.setattr(sys.modules[watch.follow.__module__], "FIRST_PAUSE", 600.0)
    return 600.0


async def test_a_folder_of_files_says_that_it_cannot(tmp_path: Path) -> None:
    async with open_store("json:///tasks") as store:
        with pytest.raises(UnsupportedByStoreError, match="use a database") as raised:
            store.watch(ContextKey("u", "c"))
        assert raised.value.database_url == store.database_url
        assert raised.value.feature == Feature.REVISIONS.value
    assert list(tmp_path.iterdir()) == []


async def test_what_is_there_comes_first_and_then_what_is_saved(store: Store, user: str) -> None:
    context = await saved(store, user, "one", "two")
    async with aclosing(store.watch(ContextKey(user, "c1"))) as updates:
        assert [(row.seq, row.update.data) for row in await take(updates, 2)] == [(1, "one"), (2, "two")]
        coming = await waits(updates)
        context.add_context_update("message", {"step": 3}, {"deep": [None]})
        await context.save()
        row = await coming
        assert (row.seq, row.update.to_dict()) == (3, context.context_history[2].to_dict())


async def test_a_watch_begins_after_a_seq_and_waits_for_one_that_is_to_come(store: Store, user: str) -> None:
    context = await saved(store, user, *range(1, 4))
    async with (
        aclosing(store.watch(ContextKey(user, "c1"), after=2)) as updates,
        aclosing(store.watch(ContextKey(user, "c1"), after=4)) as far,
    ):
        assert [row.seq for row in await take(updates, 1)] == [3]
        coming = await waits(far)
        for data in (4, 5):
            context.add_context_update("message", data)
            await context.save()
        assert (await coming).update.data == 5
        assert [row.seq for row in await take(updates, 2)] == [4, 5]


async def test_an_update_removed_before_it_was_read_is_delivered(store: Store, user: str) -> None:
    context = await saved(store, user, *range(6))
    del context.context_history[1:4]
    context.context_history[-1].data = "edited"
    await context.save()
    async with aclosing(store.watch(ContextKey(user, "c1"))) as updates:
        assert [row.update.data for row in await take(updates, 7)] == [0, 1, 2, 3, 4, 5, "edited"]
    assert await stored(store, ContextKey(user, "c1")) == [0, 4, "edited"]


async def test_the_copies_of_a_restore_are_not_delivered_again(store: Store, user: str) -> None:
    context = await saved(store, user, 1, 2, 3)
    del context.context_history[0]
    await context.save()
    async with aclosing(store.watch(ContextKey(user, "c1"))) as updates:
        assert [row.update.data for row in await take(updates, 3)] == [1, 2, 3]
        await context.restore(3)
        context.add_context_update("message", 4)
        await context.save()
        assert [(row.seq, row.update.data) for row in await take(updates, 1)] == [(7, 4)]
    await context.fork("forked")
    async with aclosing(store.watch(ContextKey(user, "forked"))) as updates:
        assert [row.update.data for row in await take(updates, 4)] == [1, 2, 3, 4]


async def test_a_long_history_comes_page_by_page(store: Store, user: str) -> None:
    await store.save(new_delta(ContextKey(user, "c1"), *range(1_203)))
    async with aclosing(store.watch(ContextKey(user, "c1"))) as updates:
        assert [row.seq for row in await take(updates, 1_203)] == list(range(1, 1_204))


async def test_writers_of_other_processes_are_seen_without_a_gap(
    address: str, kind: str, store: Store, user: str
) -> None:
    writers, saves = 3, 30
    await saved(store, user, "first")
    async with aclosing(store.watch(ContextKey(user, "c1"))) as updates:
        command = (sys.executable, "-W", "error", "-c", WRITER, address, KINDS[kind].schema or "", user)
        started = [await asyncio.create_subprocess_exec(*command, str(number), str(saves)) for number in range(writers)]
        rows = await take(updates, 1 + writers * saves)
        for process in started:
            assert await process.wait() == 0
        await cancel(await waits(updates))
    assert [row.seq for row in rows] == list(range(1, 2 + writers * saves))
    for number in range(writers):
        assert [row.update.data[1] for row in rows[1:] if row.update.data[0] == str(number)] == list(range(saves))


async def test_an_update_is_seen_at_once_by_a_watch_of_the_same_store(
    store: Store, user: str, only_notifications: float
) -> None:
    context = await saved(store, user, "old")
    async with aclosing(store.watch(ContextKey(user, "c1"), after=1, poll_interval=only_notifications)) as updates:
        coming = await waits(updates)
        context.add_context_update("message", "new")
        await context.save()
        assert (await coming).update.data == "new"


async def test_a_notification_during_a_poll_counts(store: Store, user: str, only_notifications: float) -> None:
    context = await saved(store, user, "old")
    async with aclosing(store.watch(ContextKey(user, "c1"), after=1, poll_interval=only_notifications)) as updates:
        for _ in range(20):
            coming = asyncio.create_task(take(updates, 3))
            await asyncio.sleep(0)
            for number in range(3):
                context.add_context_update("message", number)
                await context.save()
            assert [row.update.data for row in await coming] == [0, 1, 2]


async def test_a_notification_between_a_poll_and_the_next_wait_counts(
    sql_store: SqlStore, user: str, only_notifications: float
) -> None:
    context = await saved(sql_store, user, "old")
    subscriptions = Subscriptions(None)
    polls = 0

    async def read(plan: Callable[[], Plan[watch.NewUpdates]]) -> watch.NewUpdates:
        nonlocal polls
        polls += 1
        new = await sql_store.read("poll", plan, user_id=user)
        if polls == 2:
            # Too late for this poll, and nobody will notify of it again.
            context.add_context_update("message", "late")
            await context.save()
            subscriptions.deliver()
        return new

    engine = sql_store.engine_name
    async with aclosing(watch.follow(read, engine, context.key, 0, None, only_notifications, subscriptions)) as updates:
        await take(updates, 1)
        coming = await waits(updates)
        assert polls == 1
        subscriptions.deliver()
        assert (await coming).update.data == "late"


@pytest.mark.parametrize(
    "kind",
    ["sqlite", "postgres", *wide("sqlite engine", "postgres engine", "psycopg", "psycopg engine", "schema")],
)
async def test_a_notification_of_another_program_is_enough(
    store: Store, reopened: Opener, kind: str, user: str, only_notifications: float
) -> None:
    async with reopened() as other:
        context = await saved(other, user, "old")
        async with aclosing(store.watch(ContextKey(user, "c1"), poll_interval=only_notifications)) as updates:
            await take(updates, 1)
            for number in range(3):
                coming = await waits(updates)
                context.add_context_update("message", number)
                await context.save()
                assert (await coming).update.data == number


async def test_an_update_without_a_notification_is_delivered(postgres_url: str, user: str) -> None:
    """As it comes from a program that does not notify, or whose notification was lost."""
    async with open_store(postgres_url) as store:
        await saved(store, user, "old")
        async with aclosing(store.watch(ContextKey(user, "c1"), poll_interval=0.2)) as updates:
            await take(updates, 1)
            coming = await waits(updates)
            connection = await asyncpg.connect(postgres_url)
            await connection.execute(
                """
                WITH head AS (UPDATE taskctx_contexts SET next_seq = 3 WHERE user_id = $1 RETURNING context_id)
                INSERT INTO taskctx_updates (context_id, seq, timestamp, update_type, data, metadata, added_in, run_id)
                SELECT context_id, 2, 0, 'message', '"by hand"', '{}', 2, 'r' FROM head
                """,
                user,
            )
            await connection.close()
            assert (await coming).update.data == "by hand"


async def test_a_database_in_memory_can_be_watched(user: str) -> None:
    async with open_store("sqlite:///:memory:") as store:
        context = await saved(store, user, "old")
        async with aclosing(store.watch(ContextKey(user, "c1"))) as updates:
            await take(updates, 1)
            coming = await waits(updates)
            context.add_context_update("message", "new")
            await context.save()
            assert (await coming).update.data == "new"
            coming = await waits(updates)
            await store.delete(context.key)
            with pytest.raises(ContextNotFoundError):
                await coming


async def test_a_file_that_was_replaced_under_a_watch_is_opened_again(tmp_path: Path, user: str) -> None:
    url = f"sqlite:///{tmp_path}/tasks.db"
    async with open_store(url) as store:
        await saved(store, user, "old")
    async with open_store(f"sqlite:///{tmp_path}/new.db") as other:
        await saved(other, user, "of the new file")
    async with open_store(url) as store:
        coming = await waits(store.watch(ContextKey(user, "c1"), after=1))
        for end in ("", "-wal", "-shm"):
            (tmp_path / f"tasks.db{end}").unlink(missing_ok=True)
        (tmp_path / "new.db").rename(tmp_path / "tasks.db")
        # Another context of the same name: its seqs mean something else.
        with pytest.raises(ContextNotFoundError):
            await coming


async def test_all_watches_of_a_store_share_one_listener(listening_url: str, postgres_url: str, user: str) -> None:
    connection = await asyncpg.connect(postgres_url)

    async def listeners() -> int:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        return int(await connection.fetchval(asked))

    async def come_to(count: int) -> None:
        # The server may need a moment to notice that a connection has ended, also that of a test before.
        async with asyncio.timeout(PATIENCE):
            while await listeners() != count:  # noqa: ASYNC110  # the server notifies of no such thing
                await asyncio.sleep(0.05)

    await come_to(0)
    async with open_store(listening_url) as store:
        await saved(store, user, "old")
        watches = [store.watch(ContextKey(user, "c1"), after=1) for _ in range(20)]
        coming = await asyncio.gather(*map(waits, watches))
        await come_to(1)
        await saved(store, user, "new")
        async with asyncio.timeout(PATIENCE):
            assert {row.seq for row in await asyncio.gather(*coming)} == {2}
        for updates in watches[1:]:
            await updates.aclose()
        assert await listeners() == 1
        await watches[0].aclose()
        await come_to(0)
    await connection.close()


async def test_a_watch_occupies_no_connection_of_the_callers_pool(listening_url: str, user: str) -> None:
    engine = create_async_engine(engines.parse_url(listening_url), pool_size=1, max_overflow=0, pool_timeout=1)
    async with open_store(engine, retry_seconds=5) as store:
        context = await saved(store, user, "old")
        async with aclosing(store.watch(ContextKey(user, "c1"), after=1)) as updates:
            coming = await waits(updates)
            context.add_context_update("message", "new")
            await context.save()
            assert (await coming).update.data == "new"
    await engine.dispose()


async def test_a_watch_of_a_missing_context_names_it(store: Store, user: str) -> None:
    updates = store.watch(ContextKey(user, "nowhere"))
    with pytest.raises(ContextNotFoundError, match="nowhere") as raised:
        await anext(updates)
    assert raised.value.key == ContextKey(user, "nowhere")
    assert await store.contexts(user) == []


async def test_a_watch_ends_with_the_context(store: Store, user: str) -> None:
    await saved(store, user, "old")
    async with aclosing(store.watch(ContextKey(user, "c1"), after=1)) as updates:
        coming = await waits(updates)
        await store.delete(ContextKey(user, "c1"))
        with pytest.raises(ContextNotFoundError):
            await coming


async def test_a_context_that_was_created_again_is_another_one(store: Store, user: str) -> None:
    await saved(store, user, "old", "older")
    async with aclosing(store.watch(ContextKey(user, "c1"))) as updates:
        await take(updates, 1)
        await store.delete(ContextKey(user, "c1"))
        await saved(store, user, *range(5))
        assert [row.seq for row in await take(updates, 1)] == [2]
        with pytest.raises(ContextNotFoundError):
            await take(updates, 1)


async def test_a_watch_that_is_resumed_notices_that_the_context_was_created_again(store: Store, user: str) -> None:
    await saved(store, user, "old", "older")
    key = ContextKey(user, "c1")
    old = await store.load(key)
    async with aclosing(store.watch(key, after=1, created_at=old.created_at)) as updates:
        assert [row.seq for row in await take(updates, 1)] == [2]
    await store.delete(key)
    await saved(store, user, *range(5))
    with pytest.raises(ContextNotFoundError):
        await anext(store.watch(key, after=2, created_at=old.created_at))
    new = await store.load(key)
    assert new.created_at != old.created_at
    async with aclosing(store.watch(key, after=2, created_at=new.created_at)) as updates:
        assert [row.seq for row in await take(updates, 1)] == [3]


@pytest.mark.parametrize(
    "wrong",
    [
        {"created_at": "now"},
        {"created_at": True},
        {"after": -1},
        {"after": "3"},
        {"after": True},
        {"after": 1.0},
        {"poll_interval": 0},
        {"poll_interval": "1"},
    ],
)
async def test_what_makes_no_sense_is_named_at_the_call(sql_store: SqlStore, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
        sql_store.watch(ContextKey("u", "c"), **wrong)


async def test_an_id_that_cannot_be_is_named_at_the_call(sql_store: SqlStore) -> None:
    with pytest.raises(InvalidIdError):
        sql_store.watch(ContextKey("u", "c" * 300))


async def test_leaving_a_watch_leaves_nothing(store: Store, reopened: Opener, user: str) -> None:
    # The last notification may still be on its way.
    async with reopened() as other:
        await saved(other, user, "old")
    before = asyncio.all_tasks()
    for _ in range(3):
        async with aclosing(store.watch(ContextKey(user, "c1"), after=1)) as updates:
            await cancel(await waits(updates))
        async with aclosing(store.watch(ContextKey(user, "c1"))) as updates:
            async for _row in updates:
                break
    assert asyncio.all_tasks() <= before
    assert listening_threads() == []


async def test_a_cancellation_at_any_moment_leaves_nothing(store: Store, reopened: Opener, user: str) -> None:
    async with reopened() as other:
        await saved(other, user, *range(5))
    before = asyncio.all_tasks()

    async def watch() -> None:
        async for _ in store.watch(ContextKey(user, "c1")):
            pass

    for moment in range(40):
        watching = asyncio.create_task(watch())
        await asyncio.sleep(moment / 4_000)
        await cancel(watching)
    assert asyncio.all_tasks() <= before
    assert listening_threads() == []
    assert await stored(store, ContextKey(user, "c1")) == list(range(5))


async def test_closing_the_store_ends_its_watches(reopened: Opener, user: str) -> None:
    async with reopened() as store:
        await saved(store, user, "old")
        updates = store.watch(ContextKey(user, "c1"), after=1, poll_interval=600)
        coming = await waits(updates)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(StoreClosedError):
            await coming


async def test_a_watch_goes_on_when_its_connections_are_killed(
    listening_url: str, postgres_url: str, user: str
) -> None:
    connection = await asyncpg.connect(postgres_url)
    async with open_store(listening_url) as store, open_store(listening_url) as other:
        context = await saved(other, user, 0)
        async with aclosing(store.watch(ContextKey(user, "c1"))) as updates:
            await take(updates, 1)
            for number in range(1, 4):
                coming = await waits(updates)
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                context.add_context_update("message", number)
                await context.save()
                row = await coming
                assert (row.seq, row.update.data) == (number + 1, number)
    await connection.close()


async def test_the_listener_comes_back(
    listening_url: str, postgres_url: str, user: str, only_notifications: float, caplog: pytest.LogCaptureFixture
) -> None:
    connection = await asyncpg.connect(postgres_url)
    listening = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    async with open_store(listening_url) as store, open_store(listening_url) as other:
        context = await saved(other, user, "old")
        async with aclosing(store.watch(ContextKey(user, "c1"), after=1, poll_interval=only_notifications)) as updates:
            coming = await waits(updates)
            killed = await connection.fetchval(
                f"SELECT array_agg(pid) FILTER (WHERE pg_terminate_backend(pid)) {listening}"
            )
            assert killed
            for _ in range(PATIENCE * 10):
                if await connection.fetchval(f"SELECT count(*) {listening} AND pid <> ALL ($1)", killed):
                    break
                await asyncio.sleep(0.1)
            context.add_context_update("message", "new")
            await context.save()
            assert (await coming).update.data == "new"
    await connection.close()
    # The pool does not miss the connection.
    assert not [record for record in caplog.records if record.name.startswith("sqlalchemy")]


async def test_a_watch_outlasts_a_server_that_starts_again_and_not_one_that_stays_away(user: str) -> None:
    with Server() as server:
        async with (
            new_database(server.url) as url,
            open_store(url, retry_seconds=PATIENCE) as store,
            open_store(url, retry_seconds=1) as hasty,
            aclosing(store.watch(ContextKey(user, "c1"), after=1)) as updates,
        ):
            context = await saved(store, user, 1)
            coming, soon = await waits(updates), await waits(hasty.watch(ContextKey(user, "c1"), after=1))
            await asyncio.to_thread(server.crash)
            with pytest.raises(StoreUnavailableError, match="watch"):
                await soon
            await asyncio.to_thread(server.start)
            context.add_context_update("message", 2)
            await context.save()
            assert (await coming).seq == 2


def test_sync_programs_watch_too(database_url: str, user: str) -> None:
    with open_store(database_url) as store:
        context = blocking(loaded(store, user))
        for data in ("one", "two"):
            context.add_context_update("message", data)
            blocking(context.save())
        seen = []
        for row in blocking(store.watch(ContextKey(user, "c1"))):
            seen.append(row.update.data)
            if len(seen) == 2:
                context.add_context_update("message", "three")
                blocking(context.save())
            elif len(seen) == 3:
                break
        assert seen == ["one", "two", "three"]


def test_a_payload_names_a_few_contexts_or_stands_for_all() -> None:
    ids = [f"{number:036}" for number in range(MAX_IDS)]
    assert decode_payload(encode_payload(ids)) == ids
    assert len(encode_payload(ids)) < 8_000
    assert decode_payload(encode_payload([*ids, "one more"])) is None


async def test_notifications_are_rare_and_their_failures_are_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskctx_sql.sql.watch.notifier.INTERVAL", 600.0)
    sent: list[set[str]] = []

    async def send(payload: str) -> None:
        sent.append(set(payload.split(",")))
        if len(sent) == 1:
            raise OSError("the database is away")

    notifier = Notifier(send)
    notifier.notify("first")
    await asyncio.sleep(0)
    for number in range(100):
        notifier.notify(f"{number}")
        await asyncio.sleep(0)
    await notifier.close()
    assert sent == [{"first"}, {f"{number}" for number in range(100)}]
    assert [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "taskctx-notifier"] == []
