"""A web service with a database of its own: FastAPI, SQLAlchemy with psycopg, alembic, a pooler and tests of its own.

`service/` is the application, written by the words of the guides. It is run here from its first migration on, with its
tables and the library's in one database, behind pgbouncer if that is installed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from fastapi import FastAPI

from taskctx_sql import blocking, open_store, schema
from taskctx_sql.sql.schema import HEAD
from tests.conftest import run_on_a_thread
from tests.support import pgbouncer, postgres
from tests.support.waiting import until
from tests.test_docs import BLOCK, DOCS

pytest_plugins = ("pytester",)

SERVICE = Path(__file__).parent / "service"


def with_psycopg(url: str) -> str:
    return sa.make_url(url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def alembic(name: str, *arguments: str, **options: object) -> str:
    """Run a command of alembic's for the service, and return what it printed."""
    printed = StringIO()
    config = Config(str(SERVICE / "alembic.ini"), stdout=printed, output_buffer=printed)
    getattr(command, name)(config, *arguments, **options)
    return printed.getvalue()


@pytest.fixture(scope="module")
def database(postgres_server: str) -> Iterator[str]:
    """The service's database, migrated by its alembic from nothing on."""
    created = run_on_a_thread(postgres.create_database(postgres_server))
    url = with_psycopg(created)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_DATABASE_URL", url)
        patch.syspath_prepend(str(SERVICE))
        alembic("upgrade", "heads")
        yield url
    for module in [module for module in sys.modules if module.split(".")[0] == "shop"]:
        del sys.modules[module]
    run_on_a_thread(postgres.drop_database(postgres_server, created))


@pytest.fixture(scope="module")
def pooled(database: str) -> Iterator[str]:
    """The database behind a pooler, or itself on a machine without one."""
    if pgbouncer.BINARY is None and not os.environ.get("TASKCTX_TEST_PGBOUNCER"):
        yield database
        return
    with pgbouncer.running(database) as url:
        yield with_psycopg(url)


@asynccontextmanager
async def running(url: str) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """Run the service, and yield it with a client."""
    from shop.app import create_app

    app = create_app(url)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://shop") as client,
    ):
        yield app, client


async def ordered(client: httpx.AsyncClient, customer: str, number: int = 1) -> int:
    """Order something, and return the order's id."""
    response = await client.post("/orders", json={"customer": customer, "chat_id": f"{customer} {number}"})
    assert response.status_code == 201, response.text
    return int(response.json()["id"])


def test_the_guide_shows_its_answer_as_it_is() -> None:
    (shown,) = [code for kind, code in BLOCK.findall((DOCS / "guides" / "web-service.md").read_text()) if kind == "py"]
    function = "async def answer("
    assert shown.partition(function)[2] == (SERVICE / "shop" / "answers.py").read_text().partition(function)[2] != ""


def test_its_alembic_has_both_histories_and_finds_nothing_to_do(database: str) -> None:
    assert blocking(schema.current(database)) == HEAD
    alembic("check")
    assert {line.split()[0] for line in alembic("current").splitlines()} == {"shop_0002", HEAD}
    printed = alembic("upgrade", "heads", sql=True)
    assert "CREATE VIEW order_costs" in printed
    assert "CREATE TABLE taskctx_contexts" in printed
    alembic("downgrade", "shop@base")
    assert blocking(schema.current(database)) == HEAD
    alembic("upgrade", "heads")
    assert "No new upgrade operations" in alembic("check")


async def test_requests_at_once_are_recorded_with_their_costs(pooled: str, database: str, user: str) -> None:
    async with running(pooled) as (_, client):
        numbers = [await ordered(client, user, number) for number in range(3)]
        asked = [client.post(f"/orders/{number}/questions", json={"text": "Where?"}) for number in numbers * 5]
        responses = await asyncio.gather(*asked)
        assert {(response.status_code, response.text) for response in responses} == {(200, "yourorderisonitsway")}
        for number in numbers:
            history = (await client.get(f"/orders/{number}/history")).json()
            assert [update["seq"] for update in history] == list(range(15, 0, -1))
            assert (
                sorted(update["type"] for update in history) == ["answer"] * 5 + ["model_usage"] * 5 + ["question"] * 5
            )
        shown = (await client.get("/orders", params={"customer": user})).json()
        each = {"runs": 5, "outcome": "completed", "cost": 0.03}
        assert shown == [{"id": number, **each} for number in numbers]
        assert (await client.post("/orders", json={"customer": user, "chat_id": f"{user} 1"})).status_code == 409
        assert (await client.post("/orders", json={"customer": "x" * 256, "chat_id": "1"})).status_code == 422
    async with open_store(database) as store:
        totals = await store.reports.tasks(user_id=user).totals()
    assert (totals["rows"], totals["cost"]) == (3, 0.09)


@pytest.mark.parametrize("leaves", ["while the model thinks", "while it is told"])
async def test_what_a_client_that_disconnects_was_told_is_recorded(
    pooled: str, user: str, leaves: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, told = [{"type": "http.request", "body": b'{"text": "Where?"}'}], list[bytes]()
    heard, never = asyncio.Event(), asyncio.Event()

    async def slow(question: str) -> AsyncIterator[str]:
        yield "your"
        yield "order"
        await never.wait()

    async def receive() -> dict[str, Any]:
        if asked:
            return asked.pop()
        await heard.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        told.append(message.get("body", b""))
        if b"".join(told) == b"yourorder":
            heard.set()
            if leaves == "while it is told":
                await never.wait()

    async with running(pooled) as (app, client):
        number = await ordered(client, user)
        monkeypatch.setattr("shop.answers.model", slow)
        scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": f"/orders/{number}/questions",
        }
        scope |= {"headers": [(b"content-type", b"application/json")], "query_string": b""}
        await app(scope, receive, send)
        # A generator that waited for its reader is closed by the event loop.
        cancelled = partial(app.state.store.reports.runs, user_id=user, outcome="cancelled")
        await until(cancelled)
        assert [run.cost for run in await cancelled()] == [0.002]
        history = (await client.get(f"/orders/{number}/history")).json()
        assert [update["type"] for update in history] == ["answer", "model_usage", "question"]
        assert history[0]["data"] == {"text": "your order"}


async def test_its_health_says_whether_the_database_answers(database: str, user: str) -> None:
    with ExitStack() as stack:
        url = stack.enter_context(pgbouncer.running(database))
        async with running(with_psycopg(url)) as (_, client):
            assert (await client.get("/health")).json() == {"status": "ok"}
            await ordered(client, user)
            stack.close()
            response = await client.get("/health")
            assert (response.status_code, response.json()["status"]) == (503, "unavailable")
            assert (await client.get("/orders", params={"customer": user})).status_code == 503


def test_its_own_tests_pass_with_the_fixtures_of_the_plugin(
    postgres_server: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKCTX_TEST_DATABASE_URL", with_psycopg(postgres_server))
    shutil.copytree(SERVICE, pytester.path, dirs_exist_ok=True)
    options = ("-ptaskctx_pytest", "-pno:cacheprovider", "-pno:xdist", "-pno:hypothesispytest")
    pytester.runpytest_subprocess(*options, timeout=120).assert_outcomes(passed=3)
