"""Addresses that integrations open."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from taskctx_sql import ContextKey, Store
from taskctx_sql.errors import StoreClosedError, UnstorableValueError
from taskctx_sql.integrations.opening import StoreSource
from tests.support.waiting import SOON


def test_an_address_is_opened_in_each_event_loop_and_closed_when_that_ends(database_url: str, user: str) -> None:
    key, before = ContextKey(user, "c1"), set(threading.enumerate())
    source = StoreSource(database_url)

    async def use() -> Store:
        store = await source.get()
        assert await source.get() is store
        await store.write(key, updates=[("message", 1)])
        return store

    stores = [asyncio.run(use()) for _ in range(3)]
    for ended in stores:
        with pytest.raises(StoreClosedError):
            asyncio.run(ended.load(key))
    until = time.monotonic() + SOON
    while (left := set(threading.enumerate()) - before) and time.monotonic() < until:
        time.sleep(0.01)
    assert not left


def test_an_address_is_opened_strictly(database_url: str, user: str) -> None:
    async def use() -> None:
        source = StoreSource(database_url)
        store = await source.get()
        with pytest.raises(UnstorableValueError):
            await store.write(ContextKey(user, "c1"), updates=[("message", object())])
        await source.close()

    asyncio.run(use())
