"""Watches, and what they are waited for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from taskctx_sql import Store, TaskContext
from taskctx_sql.model import StoredUpdate
from tests.support.contract import loaded

PATIENCE = 60

Updates = AsyncGenerator[StoredUpdate, None]


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
