"""The shop's web service: `uvicorn --factory shop.app:create_app`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from shop import settings
from shop.answers import answer
from shop.models import Order
from taskctx_sql import ContextKey, Store, open_store, schema
from taskctx_sql.errors import InvalidIdError, StoreError, StoreUnavailableError


class NewOrder(BaseModel):
    """What a customer sends to order."""

    customer: str
    chat_id: str


class Question(BaseModel):
    """What a customer asks about an order."""

    text: str


def create_app(database_url: str | None = None, *, pooler: bool = True) -> FastAPI:
    """Return the service; the pooler is one in transaction mode between it and the server."""
    url = database_url or settings.database_url()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # Prepared statements would outlive a transaction.
        engine = create_async_engine(url, connect_args={"prepare_threshold": None} if pooler else {})
        try:
            async with open_store(engine, transaction_pooling=pooler) as store:
                app.state.store, app.state.sessions = store, async_sessionmaker(engine, expire_on_commit=False)
                yield
        finally:
            await engine.dispose()

    app = FastAPI(lifespan=lifespan)
    app.add_exception_handler(StoreUnavailableError, _unavailable)
    app.add_exception_handler(OperationalError, _unavailable)
    app.add_exception_handler(InvalidIdError, _invalid)
    app.add_api_route("/health", health, methods=["GET"])
    app.add_api_route("/orders", orders, methods=["GET"])
    app.add_api_route("/orders", create_order, methods=["POST"], status_code=201)
    app.add_api_route("/orders/{number}/questions", ask, methods=["POST"])
    app.add_api_route("/orders/{number}/history", history, methods=["GET"])
    return app


def _unavailable(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": "the database is unavailable, try again"}, 503, {"Retry-After": "5"})


def _invalid(request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, 422)


def _store(request: Request) -> Store:
    store: Store = request.app.state.store
    return store


async def _session(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions() as session:
        yield session


Records = Annotated[Store, Depends(_store)]
Session = Annotated[AsyncSession, Depends(_session)]


async def health(store: Records) -> Response:
    """Say whether the database answers."""
    try:
        await store.ping(timeout=2)
    except StoreError as error:
        return JSONResponse({"status": "unavailable", "reason": str(error)}, 503)
    return JSONResponse({"status": "ok"})


async def create_order(order: NewOrder, session: Session) -> dict[str, int]:
    """Take an order, in the shop's own table."""
    # Names what a context cannot be identified by, before there is an order without a record.
    ContextKey(order.customer, order.chat_id)
    row = Order(customer=order.customer, chat_id=order.chat_id)
    session.add(row)
    try:
        await session.commit()
    except IntegrityError:
        raise HTTPException(409, "there is such an order already") from None
    return {"id": row.id}


async def _order(number: int, session: Session) -> Order:
    order = await session.get(Order, number)
    if order is None:
        raise HTTPException(404, "there is no such order")
    # The connection goes back: the answer takes longer than the query.
    await session.commit()
    return order


Found = Annotated[Order, Depends(_order)]


async def ask(order: Found, question: Question, store: Records) -> StreamingResponse:
    """Stream the answer to a question about an order."""
    return StreamingResponse(answer(order, question.text, store), media_type="text/plain")


async def history(order: Found, store: Records, before: int | None = None) -> list[dict[str, Any]]:
    """Return 20 updates of an order, the newest first."""
    rows = store.updates(ContextKey(order.customer, order.chat_id), before=before, newest_first=True)
    page: list[dict[str, Any]] = []
    async for row in rows:
        page.append({"seq": row.seq, "type": row.update.update_type, "data": row.update.data})
        if len(page) == 20:
            break
    return page


async def orders(session: Session, customer: str) -> list[dict[str, Any]]:
    """Return a customer's orders, and what answering cost: a join of the shop's model with a view of the library."""
    tasks = schema.views.tasks
    record = sa.and_(tasks.c.user_id == Order.customer, tasks.c.chat_id == Order.chat_id)
    statement = (
        sa.select(Order.id, tasks.c.runs, tasks.c.outcome, tasks.c.cost)
        .join(tasks, record, isouter=True)
        .where(Order.customer == customer)
        .order_by(Order.id)
    )
    return [dict(row) for row in (await session.execute(statement)).mappings()]
