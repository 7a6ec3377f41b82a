"""The shop's own tests: the answers on a store of taskctx_sql's plugin, the service on a database of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from shop.answers import answer
from shop.app import create_app
from shop.models import Base, Order
from sqlalchemy.ext.asyncio import create_async_engine

from taskctx_sql import ContextKey, Store
from taskctx_sql.testing import Clock

KEY = ContextKey("ann", "order 1")
ORDER = Order(id=1, customer=KEY.user_id, chat_id=KEY.chat_id)


async def test_an_answer_is_recorded_with_its_cost(taskctx_store: Store, taskctx_clock: Clock) -> None:
    first = [word async for word in answer(ORDER, "Where is it?", taskctx_store)]
    taskctx_clock.advance(60)
    assert [word async for word in answer(ORDER, "And now?", taskctx_store)] == first
    history = (await taskctx_store.load(KEY)).history
    assert [update.update_type for update in history] == ["question", "model_usage", "answer"] * 2
    assert history[3].timestamp - history[0].timestamp == 60
    (task,) = await taskctx_store.reports.tasks()
    assert (task.outcome, task.cost) == ("completed", 0.012)


async def test_an_answer_that_fails_keeps_its_question(taskctx_store: Store) -> None:
    with pytest.raises(ValueError, match="empty"):
        await anext(answer(ORDER, " ", taskctx_store))
    (run,) = await taskctx_store.reports.runs()
    assert (run.outcome, run.error) == ("failed", "ValueError: the question is empty")
    assert [update.data for update in (await taskctx_store.load(KEY)).history] == [{"text": " "}]


@pytest.fixture
async def client(taskctx_database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service, with the shop's tables in the same database."""
    engine = create_async_engine(taskctx_database_url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()
    app = create_app(taskctx_database_url, pooler=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client,
    ):
        yield client


async def test_an_order_has_a_history(client: httpx.AsyncClient) -> None:
    order = (await client.post("/orders", json={"customer": "ann", "chat_id": "order 1"})).json()["id"]
    assert (await client.post(f"/orders/{order}/questions", json={"text": "Where?"})).status_code == 200
    page = (await client.get(f"/orders/{order}/history")).json()
    assert [(update["seq"], update["type"]) for update in page] == [(3, "answer"), (2, "model_usage"), (1, "question")]
    assert (await client.get("/orders/99/history")).status_code == 404
