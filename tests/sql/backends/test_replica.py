"""Reading from a streaming replica: used where it may be, and never behind what this store knows."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa

from taskctx_sql import ContextKey, SqlStore, open_store
from taskctx_sql.errors import InvalidDatabaseUrlError, LostContextError, StaleContextError, StoreFailedError
from taskctx_sql.maintenance import erase, prune
from taskctx_sql.model import Retention, StateChange
from taskctx_sql.sql.backends import Replica, replica
from taskctx_sql.sql.schema import tables
from tests.support.contract import all_rows, loaded, new_delta, stored
from tests.support.postgres import Server, ask, new_database
from tests.support.streaming import Standby
from tests.support.wire import Network


class Servers(NamedTuple):
    primary: Server
    standby: Standby


class Pair(NamedTuple):
    """A database on both servers, and a store that reads from the second."""

    url: str
    read_url: str
    standby: Standby
    store: SqlStore

    async def elsewhere(self, user: str, *datas: Any, chat: str = "c1") -> None:
        """Save as another program does."""
        async with open_store(self.url) as other:
            context = await loaded(other, user, chat)
            for data in datas:
                context.add_context_update("message", data)
                await context.save()


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Server() as primary, Standby(primary) as standby:
        yield Servers(primary, standby)


@pytest.fixture
async def pair(servers: Servers) -> AsyncIterator[Pair]:
    async with new_database(servers.primary.url) as url:
        await servers.standby.catch_up()
        read_url = servers.standby.url(url)
        store = await open_store(url, read_url=read_url, retry_seconds=5)
        assert isinstance(store, SqlStore)
        yield Pair(url, read_url, servers.standby, store)
        await store.close()
        await servers.standby.resume()
        assert await ask(servers.standby.url(servers.primary.url), "SELECT NOT pg_is_wal_replay_paused()")


async def test_what_others_save_is_read_from_the_replica_when_it_is_there(pair: Pair, user: str) -> None:
    key = ContextKey(user, "c1")
    await pair.elsewhere(user, "one")
    await pair.standby.catch_up()
    assert await stored(pair.store, key) == ["one"]
    await pair.standby.pause()
    await pair.elsewhere(user, "two")
    # It lags, which shows that it is asked.
    assert await stored(pair.store, key) == ["one"]
    assert [row.update.data for row in await all_rows(pair.store, key)] == ["one"]
    await pair.standby.resume()
    await pair.standby.catch_up()
    assert await stored(pair.store, key) == ["one", "two"]


async def test_ones_own_saves_are_read_however_far_the_replica_lags(pair: Pair, user: str) -> None:
    await pair.elsewhere(user, "theirs", chat="other")
    await pair.standby.catch_up()
    await pair.standby.pause()
    await pair.elsewhere(user, "later", chat="other")
    context = await loaded(pair.store, user)
    for number in range(3):
        context.add_context_update("message", number)
        await context.save()
        assert await stored(pair.store, context.key) == list(range(number + 1))
        assert [row.update.data for row in await all_rows(pair.store, context.key)] == list(range(number + 1))
    # Others are read from the replica meanwhile.
    assert await stored(pair.store, ContextKey(user, "other")) == ["theirs"]


async def test_ones_own_values_are_read_however_far_the_replica_lags(pair: Pair, user: str) -> None:
    key, theirs = ContextKey(user, "c1"), ContextKey(user, "other")
    async with open_store(pair.url) as other:
        await other.save(new_delta(theirs, state=[StateChange("a", "theirs")]))
        await pair.standby.catch_up()
        await pair.standby.pause()
        await other.save(new_delta(theirs, state=[StateChange("a", "later")]))
    await pair.store.save(new_delta(key, state=[StateChange("a", "mine")]))
    assert [entry.value for entry in await pair.store.state(key)] == ["mine"]
    # Others are read from the replica meanwhile.
    assert [entry.value for entry in await pair.store.state(theirs)] == ["theirs"]
    assert await pair.store.delete(key)
    assert await pair.store.state(key) == []


async def test_what_was_deleted_stays_away(pair: Pair, user: str) -> None:
    key = ContextKey(user, "c1")
    await pair.elsewhere(user, "old")
    await pair.standby.catch_up()
    await pair.standby.pause()
    assert await pair.store.delete(key)
    assert (await pair.store.load(key)).revision == 0
    assert await all_rows(pair.store, key) == []
    await pair.store.save(new_delta(key, "new"))
    assert await stored(pair.store, key) == ["new"]


async def test_what_was_erased_or_pruned_stays_away(pair: Pair, user: str) -> None:
    for chat in ("erased", "pruned"):
        await pair.elsewhere(user, "old", chat=chat)
    await pair.standby.catch_up()
    await pair.standby.pause()
    await erase(pair.store, user, "erased")
    await prune(pair.store, Retention(max_age=0), user_id=user, now=time.time() + 60)
    for chat in ("erased", "pruned"):
        assert (await pair.store.load(ContextKey(user, chat))).revision == 0
        assert await all_rows(pair.store, ContextKey(user, chat)) == []


async def test_no_load_goes_back_behind_one_before(pair: Pair, user: str) -> None:
    key = ContextKey(user, "c1")
    await pair.elsewhere(user, "one")
    await pair.standby.catch_up()
    await pair.standby.pause()
    await pair.elsewhere(user, "two")
    # As if another replica of the same address had been further.
    assert isinstance(pair.store._replica, Replica)
    pair.store._replica.note(key, 2)
    assert await stored(pair.store, key) == ["one", "two"]
    assert [row.update.data for row in await all_rows(pair.store, key)] == ["one", "two"]


async def test_a_load_after_a_stale_error_reads_what_is_new(pair: Pair, user: str) -> None:
    await pair.elsewhere(user, "one")
    await pair.standby.catch_up()
    await pair.standby.pause()
    await pair.elsewhere(user, "two")
    context = await loaded(pair.store, user)
    context.add_context_update("message", "mine")
    with pytest.raises(StaleContextError):
        await context.save(if_unchanged=True)
    await context.load()
    await context.save(if_unchanged=True)
    assert await stored(pair.store, context.key) == ["one", "two", "mine"]


async def test_a_load_after_a_lost_error_does_not_read_the_deleted_context(pair: Pair, user: str) -> None:
    await pair.elsewhere(user, "one")
    await pair.standby.catch_up()
    await pair.standby.pause()
    context = await loaded(pair.store, user)
    async with open_store(pair.url) as other:
        assert await other.delete(context.key)
    context.add_context_update("message", "mine")
    with pytest.raises(LostContextError):
        await context.save()
    await context.load()
    await context.save()
    assert await stored(pair.store, context.key) == ["mine"]


async def test_reports_and_questions_may_lag_and_lists_and_watches_do_not(pair: Pair, user: str) -> None:
    await pair.elsewhere(user, "one")
    await pair.standby.catch_up()
    await pair.standby.pause()
    await pair.elsewhere(user, "two")
    question = sa.select(tables.updates.c.data).order_by(tables.updates.c.seq)
    assert (await pair.store.query(question)) == [('"one"',)]
    assert (await pair.store.query(question, may_lag=False)) == [('"one"',), ('"two"',)]
    assert [task.updates for task in await pair.store.reports.tasks(user_id=user)] == [1]
    assert [found.revision for found in await pair.store.contexts(user)] == [2]
    async with asyncio.timeout(60), aclosing(pair.store.watch(ContextKey(user, "c1"))) as updates:
        assert [(await anext(updates)).update.data for _ in range(2)] == ["one", "two"]


async def test_a_question_that_is_wrong_is_the_callers(pair: Pair) -> None:
    with pytest.raises(StoreFailedError, match="no_such"):
        await pair.store.query(sa.select(sa.literal_column("no_such")))


async def test_without_the_replica_all_goes_on_and_with_it_too(
    pair: Pair, user: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(replica, "PAUSE", 0.2)
    key = ContextKey(user, "c1")
    await pair.elsewhere(user, "one")
    await pair.standby.catch_up()
    assert await stored(pair.store, key) == ["one"]
    await asyncio.to_thread(pair.standby.stop)
    caplog.set_level(logging.WARNING)
    for number in range(5):
        await pair.elsewhere(user, number)
        assert await stored(pair.store, key) == ["one", *range(number + 1)]
        assert len(await pair.store.query(sa.select(tables.updates.c.seq))) == number + 2
        await asyncio.sleep(0.1)
    async with open_store(pair.url, read_url=pair.read_url) as store:
        assert await stored(store, key) == ["one", *range(5)]
    of_pair = [record.message for record in caplog.records if "cannot be read" in record.message]
    assert len(of_pair) == 2
    await asyncio.to_thread(pair.standby.start)
    await pair.standby.catch_up()
    await asyncio.sleep(0.3)
    caplog.clear()
    assert await stored(pair.store, key) == ["one", *range(5)]
    assert [record.message for record in caplog.records if "is read again" in record.message]


async def test_a_replica_that_failed_is_left_alone_for_a_while(postgres_url: str, user: str) -> None:
    asked = 0

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    read_url = f"postgresql://me@127.0.0.1:{server.sockets[0].getsockname()[1]}/db"
    async with server, open_store(postgres_url, read_url=read_url) as store:
        await stored(store, ContextKey(user, "c1"))
        first = asked
        assert first > 0
        for _ in range(10):
            await stored(store, ContextKey(user, "c1"))
        assert asked == first


async def test_a_replica_at_another_schema_is_left_alone(
    pair: Pair, servers: Servers, user: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It has not heard of an upgrade yet, or is another database."""
    caplog.set_level(logging.WARNING)
    await pair.elsewhere(user, "one")
    empty = servers.standby.url(servers.primary.url)
    async with open_store(pair.url, read_url=empty) as store:
        assert await stored(store, ContextKey(user, "c1")) == ["one"]
        assert await stored(store, ContextKey(user, "c1")) == ["one"]
    assert [record.message.count("has no taskctx tables yet") for record in caplog.records] == [1]


async def test_a_load_from_the_replica_costs_no_more_round_trips(pair: Pair, user: str) -> None:
    context = await loaded(pair.store, user)
    context.add_context_update("message", "one")
    await context.save()
    await pair.standby.catch_up()
    async with Network(pair.url, seconds=0) as primary, Network(pair.read_url, seconds=0) as second:
        async with open_store(primary.url, read_url=second.url) as store:
            counts = []
            for _ in range(4):
                before = primary.round_trips, second.round_trips
                await loaded(store, user)
                counts.append((primary.round_trips - before[0], second.round_trips - before[1]))
        async with open_store(primary.url) as store:
            await loaded(store, user)
            before = primary.round_trips, second.round_trips
            await loaded(store, user)
            assert counts[-2:] == [(0, primary.round_trips - before[0])] * 2


@pytest.mark.parametrize("options", [{"schema": "elsewhere"}, {"transaction_pooling": True}])
async def test_the_plain_way_reads_from_the_replica_too(pair: Pair, user: str, options: dict[str, Any]) -> None:
    from taskctx_sql import schema

    await schema.upgrade(pair.url, schema=options.get("schema"))
    async with open_store(pair.url, **options) as other:
        await other.save(new_delta(ContextKey(user, "c1"), "one"))
        await pair.standby.catch_up()
        await pair.standby.pause()
        await other.save(new_delta(ContextKey(user, "c1"), "two"))
    async with open_store(pair.url, read_url=pair.read_url, **options) as store:
        assert await stored(store, ContextKey(user, "c1")) == ["one"]
        await store.save(new_delta(ContextKey(user, "c1"), "three"))
        assert await stored(store, ContextKey(user, "c1")) == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("address", "read_url"),
    [
        ("sqlite:///tasks.db", "postgresql://me@host/db"),
        ("postgresql://me@host/db", "sqlite:///tasks.db"),
        ("json:///tasks", "postgresql://me@host/db"),
        ("postgresql://me@host/db", "no address"),
        ("postgresql://me@host/db", "mysql://me:secret@host/db"),
    ],
)
async def test_only_a_postgres_has_a_replica(address: str, read_url: str) -> None:
    with pytest.raises(InvalidDatabaseUrlError) as raised:
        await open_store(address, read_url=read_url)
    assert "secret" not in str(raised.value)
