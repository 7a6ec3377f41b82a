"""Groups of saves on Postgres: one round trip a step, and no context holds up another."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from typing import Any

import pytest
import sqlalchemy as sa

from taskctx_sql import ContextKey, SqlStore, open_store
from taskctx_sql.sql import row_codec
from tests.support.contract import all_rows, expect_reload, loaded
from tests.support.waiting import SOON
from tests.support.wire import Network


async def through(network: Network, user: str, **options: Any) -> SqlStore:
    store = await open_store(network.url, **options)
    assert isinstance(store, SqlStore)
    return store


async def test_a_step_is_one_round_trip(postgres_url: str, user: str) -> None:
    async with Network(postgres_url, seconds=0.002) as network:
        store = await through(network, user)
        context = await loaded(store, user)

        async def step(number: int) -> tuple[int, float]:
            context.add_context_update("message", {"number": number})
            context.file_tracker[f"f{number % 3}"] = {"operation": "read"}
            context.model_tracker.append({"model_id": "m", "number": number})
            before, started = network.round_trips, time.perf_counter()
            await context.save()
            return network.round_trips - before, time.perf_counter() - started

        # The first ones connect, and prepare the statement.
        for number in range(3):
            await step(number)
        steps = [await step(number) for number in range(3, 23)]
        assert [trips for trips, _ in steps] == [1] * 20
        # One round trip of 4 ms, where two would be 8.
        assert sorted(seconds for _, seconds in steps)[10] >= 0.004
        before = network.round_trips
        together_saved = [await loaded(store, user, str(number)) for number in range(20)]
        for other in together_saved:
            await other.save()
            other.add_context_update("message", 1)
        before = network.round_trips
        await asyncio.gather(*(other.save() for other in together_saved))
        assert network.round_trips - before <= 3
        await store.close()
    async with open_store(postgres_url) as again:
        await expect_reload(again, context)


async def test_a_context_that_a_stranger_has_locked_holds_up_no_other(postgres_url: str, user: str) -> None:
    async with open_store(postgres_url) as store:
        assert isinstance(store, SqlStore)
        contexts = [await loaded(store, user, str(number)) for number in range(10)]
        for context in contexts:
            await context.save()
            context.add_context_update("message", 1)
        context_id = row_codec.context_id(contexts[0].key)
        async with store._backend.engine.connect() as stranger:
            await stranger.execute(
                sa.text("SELECT 1 FROM taskctx_contexts WHERE context_id = :context_id FOR UPDATE"),
                {"context_id": context_id},
            )
            saves = [asyncio.create_task(context.save()) for context in contexts]
            await asyncio.wait_for(asyncio.gather(*saves[1:]), SOON)
            assert not saves[0].done()
            await stranger.rollback()
        await asyncio.gather(*saves)
        for context in contexts:
            assert [row.update.data for row in await all_rows(store, context.key)] == [1]


async def test_two_stores_with_the_same_contexts_do_not_block_each_other(
    postgres_url: str, user: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_store(postgres_url) as one, open_store(postgres_url) as two:
        here = asyncio.Barrier(2)

        async def write(store: Any, seed: int) -> None:
            chance = random.Random(seed)
            for group in range(5):
                contexts = [await loaded(store, user, f"{group}-{number}") for number in range(30)]
                for number in range(2):
                    chance.shuffle(contexts)
                    for context in contexts:
                        context.add_context_update("message", number)
                    await asyncio.gather(*(context.save() for context in contexts))
                await here.wait()

        await asyncio.gather(write(one, 1), write(two, 2))
        for group, number in itertools.product(range(5), range(30)):
            assert len(await all_rows(one, ContextKey(user, f"{group}-{number}"))) == 4
    # A deadlock would end one of them, which would be tried again.
    assert caplog.messages == []
