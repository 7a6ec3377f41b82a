"""What spans and metrics say of errors, outages and addresses, and what they keep to themselves."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from opentelemetry.trace import StatusCode

from taskctx_sql import ContextKey, SqlStore, open_store
from taskctx_sql.errors import ContextNotFoundError, StoreUnavailableError
from taskctx_sql.telemetry import attributes
from tests.support.connections import SCHEMA
from tests.support.contract import new_delta
from tests.support.loopback import Loopback, Streams
from tests.support.waiting import until
from tests.telemetry.recorded import Recorded


async def test_an_error_is_recorded_by_its_type_and_not_by_its_message(
    database_url: str, recorded: Recorded, user: str
) -> None:
    async with open_store(database_url) as store:
        with pytest.raises(ContextNotFoundError):
            await store.revisions(ContextKey(user, "none"))
    (span,) = recorded.spans("revisions")
    assert span.attributes is not None
    assert span.attributes["error.type"] == "ContextNotFoundError"
    assert span.status.status_code is StatusCode.ERROR
    assert (span.status.description, list(span.events)) == (None, [])
    assert recorded.points("db.client.operation.duration", error__type="ContextNotFoundError")


async def test_users_data_is_on_spans_if_asked_for_and_never_on_metrics(
    database_url: str, recorded: Recorded, user: str
) -> None:
    recorded.enable(user_data=True)
    async with open_store(database_url) as store:
        await store.save(new_delta(ContextKey(user, "c"), "a"))
        await store.contexts(user)
        await store.reports.tasks(user_id=user)
        with pytest.raises(ContextNotFoundError):
            await store.revisions(ContextKey(user, "none"))
    (save,), (listed,), (failed,) = (recorded.spans(each) for each in ("save", "contexts", "revisions"))
    assert save.attributes is not None
    assert (save.attributes["user.id"], save.attributes["gen_ai.conversation.id"]) == (user, "c")
    assert listed.attributes is not None
    assert listed.attributes["user.id"] == user
    assert user in str(failed.status.description)
    assert user not in str(recorded.points("db.client.operation.duration"))
    assert recorded.points("db.client.operation.duration")


class Switch(Loopback):
    """A network to a server that can be cut and mended."""

    def __init__(self, server_url: str) -> None:
        super().__init__(server_url)
        self._up, self._down = asyncio.Event(), asyncio.Event()
        self.switch(on=True)

    def switch(self, *, on: bool) -> None:
        for event, is_set in ((self._up, on), (self._down, not on)):
            (event.set if is_set else event.clear)()

    async def serve(self, client: Streams, server: Streams) -> None:
        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while self._up.is_set() and (data := await reader.read(65536)):
                writer.write(data)
                await writer.drain()

        both = [asyncio.create_task(forward(client[0], server[1])), asyncio.create_task(forward(server[0], client[1]))]
        watching = asyncio.create_task(self._down.wait())
        with contextlib.suppress(OSError):
            await asyncio.wait([*both, watching], return_when=asyncio.FIRST_COMPLETED)
        for task in (*both, watching):
            task.cancel()
        await asyncio.gather(*both, watching, return_exceptions=True)


async def test_an_outage_is_counted_with_its_retries(schema_url: str, recorded: Recorded, user: str) -> None:
    async with Switch(schema_url) as network, open_store(network.url, schema=SCHEMA, retry_seconds=20) as store:
        await store.save(new_delta(ContextKey(user, "c"), "before"))
        network.switch(on=False)
        saving = asyncio.create_task(store.save(new_delta(ContextKey(user, "d"), "meanwhile")))
        await until(lambda: bool(recorded.points("taskctx.client.outages")))
        assert recorded.points("taskctx.client.outage.duration") == []
        network.switch(on=True)
        await saving
        port = int(network.url.rpartition(":")[2].partition("/")[0])
    assert recorded.total("taskctx.client.outages") == 1
    (ended,) = recorded.points("taskctx.client.outage.duration")
    assert (ended["count"], ended["sum"] > 0) == (1, True)
    first, second = recorded.spans("save")
    assert first.attributes is not None
    assert second.attributes is not None
    assert "taskctx.retry_count" not in first.attributes
    assert second.attributes["taskctx.retry_count"] == recorded.total("taskctx.client.retries") >= 1
    assert (second.attributes["server.address"], second.attributes["server.port"]) == ("127.0.0.1", port)
    assert second.status.status_code is StatusCode.UNSET
    for name in ("retries", "outages", "outage.duration"):
        (point, *_) = recorded.points(f"taskctx.client.{name}")
        assert point["attributes"]["db.namespace"] == second.attributes["db.namespace"]
    assert all(point["attributes"]["error.type"] for point in recorded.points("taskctx.client.retries"))


async def test_no_password_is_in_spans_or_metrics(recorded: Recorded) -> None:
    url = "postgresql://somebody:secret-word@127.0.0.1:1/none"
    with pytest.raises(StoreUnavailableError):
        await open_store(url, retry_seconds=0.2)
    (outage,) = recorded.points("taskctx.client.outages")
    assert outage["attributes"] == {
        "db.system.name": "postgresql",
        "db.namespace": "none",
        "server.address": "127.0.0.1",
        "server.port": 1,
    }
    assert "secret" not in str(recorded.points("taskctx.client.retries"))


async def test_saves_that_wait_are_counted(tmp_path: Path, recorded: Recorded) -> None:
    path = tmp_path / "x.db"
    async with open_store(f"sqlite:///{path}") as store:
        await store.save(new_delta(ContextKey("u", "first"), 0))
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        saves = [asyncio.create_task(store.save(new_delta(ContextKey("u", str(each)), each))) for each in range(100)]
        # One is sent alone and 32 together with it; the others wait, as the metric says while they do.
        await until(lambda: recorded.total("taskctx.client.pending_saves") == 67)
        holder.execute("ROLLBACK")
        holder.close()
        await asyncio.gather(*saves)
        assert recorded.total("taskctx.client.pending_saves") == 0


@pytest.mark.parametrize(
    ("url", "schema_name", "found"),
    [
        ("sqlite:///tasks.db", None, {"db.system.name": "sqlite", "db.namespace": "tasks.db"}),
        ("sqlite:////var/tasks.db", None, {"db.system.name": "sqlite", "db.namespace": "/var/tasks.db"}),
        ("sqlite://", None, {"db.system.name": "sqlite"}),
        ("json:////a%20b", None, {"db.system.name": "json", "db.namespace": "/a b"}),
        ("kept://[broken", None, {"db.system.name": "kept"}),
        ("kept://host/x", None, {"db.system.name": "kept", "db.namespace": "x", "server.address": "host"}),
        (
            "postgresql://me:***@db.example:6432/app",
            "tasks",
            {
                "db.system.name": "postgresql",
                "db.namespace": "app|tasks",
                "server.address": "db.example",
                "server.port": 6432,
            },
        ),
        (
            "postgresql+psycopg://me@db:5432/app",
            None,
            {"db.system.name": "postgresql", "db.namespace": "app", "server.address": "db"},
        ),
        (
            "postgresql:///app?host=/run/pg&port=5433",
            None,
            {
                "db.system.name": "postgresql",
                "db.namespace": "app",
                "server.address": "/run/pg",
                "server.port": 5433,
            },
        ),
        ("postgresql:///app?host=a,b&port=1,2", None, {"db.system.name": "postgresql", "db.namespace": "app"}),
        ("postgresql://", None, {"db.system.name": "postgresql"}),
    ],
)
def test_an_address_gives_the_conventions_attributes(
    url: str, schema_name: str | None, found: dict[str, object]
) -> None:
    assert attributes.of_database(url, schema_name) == found


def test_an_error_has_the_databases_own_code() -> None:
    with pytest.raises(RuntimeError) as caught:
        try:
            sqlite3.connect(":memory:").execute("nothing")
        except sqlite3.Error as error:
            raise RuntimeError from error
    assert attributes.of_error(caught.value) == {
        "error.type": "RuntimeError",
        "db.response.status_code": "SQLITE_ERROR",
    }


async def test_a_refusal_of_postgres_has_its_code(postgres_url: str, recorded: Recorded) -> None:
    async with open_store(postgres_url) as store:
        assert isinstance(store, SqlStore)
        with pytest.raises(Exception, match="division by zero"):
            await store.query(sa.select(sa.literal_column("1/0")))
    (span,) = recorded.spans("query")
    assert span.attributes is not None
    assert span.attributes["db.response.status_code"] == "22012"
