"""How a watch hears of updates: from its own store, from the database, or by looking again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from taskctx_sql import ContextKey, SqlStore, Store, open_store
from taskctx_sql.sql import engines, watch
from taskctx_sql.sql.plan import Plan
from taskctx_sql.sql.watch import Notifier, Subscriptions
from taskctx_sql.sql.watch.notifier import MAX_IDS, decode_payload, encode_payload
from tests.conftest import Opener, wide
from tests.sql.watch.watches import PATIENCE, saved, take, waits


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
