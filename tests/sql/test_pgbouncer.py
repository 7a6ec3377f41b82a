"""Behind a pooler that gives each transaction another connection. The contract suite runs there, too."""

from __future__ import annotations

import asyncio

import pytest

from taskctx_sql import open_store, schema, task_context
from taskctx_sql.errors import StoreError
from tests.support.contract import expect_reload, loaded

pytestmark = pytest.mark.wide


async def save_in_many_tasks(url: str, user: str, transaction_pooling: bool = False) -> None:
    async with open_store(url, retry_seconds=2, transaction_pooling=transaction_pooling) as store:

        async def task(number: int) -> None:
            context = await loaded(store, user, f"c{number % 8}")
            for step in range(20):
                context.add_context_update("message", [number, step], {"step": step})
                context.track_file_operation(f"{number}", "write")
                await context.save()

        await asyncio.gather(*(task(number) for number in range(16)))
        for number in range(8):
            context = await loaded(store, user, f"c{number}")
            assert len(context.context_history) == 2 * 2 * 20
            await expect_reload(store, context)


async def test_many_tasks_save_behind_it(pgbouncer_url: str, user: str) -> None:
    await save_in_many_tasks(pgbouncer_url, user, transaction_pooling=True)


async def test_the_address_can_say_it(pgbouncer_url: str, user: str) -> None:
    url = f"{pgbouncer_url}?transaction_pooling=true"
    assert await schema.current(url) == await schema.head()
    await save_in_many_tasks(url, user)
    async with task_context({"user_id": user, "chat_id": "c0"}, database_url=url) as context:
        assert len(context.context_history) == 80


async def test_without_the_option_the_error_names_it(pgbouncer_url: str, user: str) -> None:
    with pytest.raises(StoreError, match="transaction_pooling=True"):
        for _ in range(5):
            await save_in_many_tasks(pgbouncer_url, user)
