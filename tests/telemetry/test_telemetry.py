"""OpenTelemetry: what spans and metrics say of the calls of a store, and what they keep to themselves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from taskctx_sql import (
    ContextKey,
    JsonStore,
    SqlStore,
    TaskContext,
    blocking,
    maintenance,
    open_store,
    task_context,
    telemetry,
)
from taskctx_sql.errors import ContextNotFoundError, MissingPackageError, StoreUnavailableError, UnsupportedByStoreError
from taskctx_sql.model import Retention, Write
from taskctx_sql.sql.save import SaveRequest
from taskctx_sql.sql.save.group_commit import GroupCommit, in_tasks
from taskctx_sql.telemetry import attributes
from tests.conftest import Opener
from tests.support.connections import SCHEMA
from tests.support.contract import all_rows, new_delta
from tests.support.loopback import Loopback, Streams
from tests.support.third_store import guide_code, install
from tests.support.waiting import until
from tests.test_docs import DOCS

OUR_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)


class Recorded:
    """What the SDK got of this test."""

    def __init__(self) -> None:
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers, self.meters = TracerProvider(), MeterProvider([self._reader])
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))

    def enable(self, *, user_data: bool = False) -> None:
        telemetry.enable(tracer_provider=self.tracers, meter_provider=self.meters, user_data=user_data)

    def spans(self, operation: str | None = None) -> list[ReadableSpan]:
        """Spans of the library, in the order of their ends."""
        return [
            span
            for span in self._exporter.get_finished_spans()
            if span.attributes is not None
            and "db.operation.name" in span.attributes
            and operation in (None, span.attributes["db.operation.name"])
        ]

    def metrics(self) -> set[str]:
        return {metric["name"] for metric in self._data()}

    def points(self, name: str, **attributes: Any) -> list[Any]:
        """The points of a metric that have these attributes, whose dots are written as underlines."""
        found = [point for metric in self._data() if metric["name"] == name for point in metric["data"]["data_points"]]
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        return [point for point in found if wanted.items() <= point["attributes"].items()]

    def _data(self) -> list[Any]:
        data = self._reader.get_metrics_data()
        if data is None:
            return []
        resources = json.loads(data.to_json())["resource_metrics"]
        return [metric for resource in resources for scope in resource["scope_metrics"] for metric in scope["metrics"]]

    def total(self, name: str, **attributes: Any) -> float:
        return float(sum(point["value"] for point in self.points(name, **attributes)))


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    """Telemetry of this test, enabled without users' data."""
    found = Recorded()
    found.enable()
    yield found
    telemetry.disable()
    found.meters.shutdown()
    found.tracers.shutdown()


async def fill(opener: Opener, key: ContextKey) -> None:
    """Call what every store has."""
    async with opener() as store:
        await store.save(new_delta(key, "a", "b"))
        assert len((await store.load(key)).history) == 2
        assert len(await all_rows(store, key)) == 2
        await store.contexts(key.user_id)
        await store.ping()
        with contextlib.suppress(UnsupportedByStoreError):
            await store.revisions(key)
        await store.delete(key)


@pytest.mark.parametrize("kind", ["json", "sqlite", "postgres"], indirect=True)
async def test_each_call_is_a_span_and_a_duration(kind: str, reopened: Opener, recorded: Recorded, user: str) -> None:
    await fill(reopened, ContextKey(user, "c"))
    system = "postgresql" if kind == "postgres" else kind
    # The reads of `updates` from a file are a load inside it.
    names = [str((span.attributes or {})["db.operation.name"]) for span in recorded.spans()]
    wanted = ["save", "load", "updates", "contexts", "ping", "revisions", "delete"]
    assert names == (["save", "load", "load", *wanted[2:]] if kind == "json" else wanted)
    for span in recorded.spans():
        found = dict(span.attributes or {})
        assert span.kind is SpanKind.CLIENT
        assert found["db.system.name"] == system
        assert span.name == f"{found['db.operation.name']} {found['db.namespace']}"
        failed = kind == "json" and found["db.operation.name"] == "revisions"
        assert span.status.status_code is (StatusCode.ERROR if failed else StatusCode.UNSET)
        assert user not in str(found) + str(span.events) + span.name + str(span.status.description)
        assert span.instrumentation_scope is not None
        assert span.instrumentation_scope.name == "taskctx_sql"
    (point,) = recorded.points("db.client.operation.duration", db__operation__name="save")
    assert point["explicit_bounds"] == list(OUR_BUCKETS)
    (span,) = recorded.spans("save")
    assert point["sum"] == pytest.approx(((span.end_time or 0) - (span.start_time or 0)) / 1e9)
    assert point["attributes"] == dict(span.attributes or {})
    assert recorded.total("taskctx.client.saves") == 1
    assert recorded.total("taskctx.client.saved_rows") == 2
    (returned,) = recorded.points("db.client.response.returned_rows", db__operation__name="updates")
    assert returned["sum"] == 2


async def test_writes_to_several_contexts_are_one_span_and_counted(
    tmp_path: Path, recorded: Recorded, user: str
) -> None:
    async with open_store(f"sqlite:///{tmp_path}/x.db") as store:
        await store.write(ContextKey(user, "c"), updates=[("message", 1)], state={"a": 1})
        writes = [Write(ContextKey(user, chat), updates=[("message", 1)], state={"a": 1, "b": 2}) for chat in "de"]
        await store.write_together(writes)
        assert len(await store.state(ContextKey(user, "d"))) == 2
    names = [(span.attributes or {})["db.operation.name"] for span in recorded.spans()]
    assert names == ["save", "write_together", "state"]
    assert recorded.total("taskctx.client.saves") == 3
    assert recorded.total("taskctx.client.saved_rows") == 8


async def test_the_save_of_a_call_that_takes_out_an_update_is_a_span_in_its_own(
    tmp_path: Path, recorded: Recorded, user: str
) -> None:
    key = ContextKey(user, "c")
    async with open_store(f"sqlite:///{tmp_path}/x.db") as store:
        await store.write(key, updates=[("message", 1), ("tool_call", {}, {"group": "g"})])
        await store.close_calls(key)
        assert await store.open_calls(key) == []
        assert await store.pop_update(key) is not None
    for operation in ("close_calls", "pop_update"):
        (call,) = recorded.spans(operation)
        assert call.context is not None
        assert [span for span in recorded.spans("save") if span.parent and span.parent.span_id == call.context.span_id]
    (returned,) = recorded.points("db.client.response.returned_rows", db__operation__name="open_calls")
    assert returned["sum"] == 0
    assert recorded.points("db.client.response.returned_rows", db__operation__name="close_calls")[0]["sum"] == 1


async def test_the_schema_is_a_part_of_the_namespace(schema_url: str, recorded: Recorded, user: str) -> None:
    async with open_store(schema_url, schema=SCHEMA) as store:
        await store.save(new_delta(ContextKey(user, "c"), "a"))
    (span,) = recorded.spans("save")
    assert span.attributes is not None
    assert span.attributes["db.namespace"] == f"{sa.make_url(schema_url).database}|{SCHEMA}"
    for name in ("db.client.operation.duration", "taskctx.client.pending_saves"):
        assert {point["attributes"]["db.namespace"] for point in recorded.points(name)} == {
            span.attributes["db.namespace"]
        }


async def test_a_store_of_another_package_is_observed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: Recorded
) -> None:
    monkeypatch.syspath_prepend(
        install(tmp_path, "observed_store", guide_code("py"), "memory", "observed_store:open_memory")
    )
    async with open_store("memory://one") as store:
        await store.save(new_delta(ContextKey("u", "c"), "a"))
    (span,) = recorded.spans("save")
    assert span.attributes is not None
    assert span.attributes["db.system.name"] == "memory"
    assert recorded.total("taskctx.client.saves", db__system__name="memory") == 1


async def test_a_store_is_still_of_its_class(tmp_path: Path, recorded: Recorded) -> None:
    async with open_store(f"sqlite:///{tmp_path}/x.db") as rows, open_store(f"json:///{tmp_path}/files") as files:
        assert isinstance(rows, SqlStore)
        assert isinstance(files, JsonStore)
        assert (type(rows).__qualname__, type(files).__module__) == ("SqlStore", JsonStore.__module__)


async def test_calls_are_children_of_the_callers_span(reopened: Opener, recorded: Recorded, user: str) -> None:
    # Saves share a group, and yet each is a child of its own caller.
    tracer = recorded.tracers.get_tracer("test")
    async with reopened() as store:

        async def work(number: int) -> int:
            with tracer.start_as_current_span(f"work {number}") as span:
                await store.save(new_delta(ContextKey(user, f"c{number}"), number))
                assert trace.get_current_span() is span
                async for _ in store.updates(ContextKey(user, f"c{number}")):
                    # A row is used outside of the store's own span.
                    assert trace.get_current_span() is span
                return span.get_span_context().span_id

        parents = await asyncio.gather(*map(work, range(8)))
    for operation in ("save", "updates"):
        assert sorted(span.parent.span_id for span in recorded.spans(operation) if span.parent) == sorted(parents)


async def test_what_a_call_does_is_a_child_of_its_span(database_url: str, recorded: Recorded) -> None:
    during = set[int]()

    def note(*_: Any) -> None:
        during.add(trace.get_current_span().get_span_context().span_id)

    async with open_store(database_url) as store:
        assert isinstance(store, SqlStore)
        engine = store.engine_and_schema()[0].sync_engine
        sa.event.listen(engine, "before_cursor_execute", note)
        await store.query(sa.select(sa.literal(1)))
        sa.event.remove(engine, "before_cursor_execute", note)
    (span,) = recorded.spans("query")
    assert span.context is not None
    assert during == {span.context.span_id}


async def test_a_group_of_saves_is_written_in_the_span_of_its_first(recorded: Recorded) -> None:
    written: dict[str, str] = {}
    go_on = asyncio.Event()

    async def write(group: list[SaveRequest], _: float | None) -> list[str]:
        await go_on.wait()
        names = [request.delta.key.chat_id for request in group]
        written["".join(names)] = trace.get_current_span().name  # type: ignore[attr-defined]  # the SDK's
        return names

    groups: GroupCommit[str] = GroupCommit(in_tasks(write), "x", max_in_flight=1, max_group=2)

    async def save(name: str) -> None:
        request = await SaveRequest.of(new_delta(ContextKey("u", name), 1), strict=False, rls_user=None)
        with recorded.tracers.get_tracer("test").start_as_current_span(f"of {name}"):
            await groups.save(request)

    saves = []
    for name in "abcde":
        saves.append(asyncio.create_task(save(name)))
        await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(*saves)
    assert written == {"a": "of a", "bc": "of b", "de": "of d"}


@pytest.mark.parametrize("url", ["sqlite:///tasks.db", "json:///tasks"])
def test_sync_calls_are_children_of_the_callers_span(url: str, recorded: Recorded) -> None:
    data = {"user_id": "u", "chat_id": "c"}
    job_span = recorded.tracers.get_tracer("test").start_as_current_span("job")
    with job_span as job, task_context(data, database_url=url) as context:
        context.add_context_update("message", 1)
        blocking(context.save())
    saves = recorded.spans("save")
    assert saves
    for span in [*saves, *recorded.spans("load")]:
        assert span.parent is not None
        assert span.parent.span_id == job.get_span_context().span_id


def test_the_constructor_of_a_context_loads_in_a_span(recorded: Recorded) -> None:
    TaskContext({"user_id": "u", "chat_id": "c"}, "tasks")
    assert len(recorded.spans("load")) == 1


async def test_reports_and_maintenance_are_spans(database_url: str, recorded: Recorded, user: str) -> None:
    async with open_store(database_url) as store:
        await store.save(new_delta(ContextKey(user, "c"), "a"))
        await store.reports.tasks(user_id=user)
        await maintenance.prune(store, Retention(max_contexts=0), user_id=user)
    assert recorded.spans("query")
    assert recorded.spans("prune")


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


async def test_a_call_that_is_cancelled_ends_its_span(tmp_path: Path, recorded: Recorded) -> None:
    path = tmp_path / "x.db"
    async with open_store(f"sqlite:///{path}") as store:
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        saving = asyncio.create_task(store.save(new_delta(ContextKey("u", "c"), "a")))
        await asyncio.sleep(0)
        saving.cancel()
        await asyncio.sleep(0)
        holder.execute("ROLLBACK")
        holder.close()
        with pytest.raises(asyncio.CancelledError):
            await saving
    (span,) = recorded.spans("save")
    assert span.attributes is not None
    assert span.attributes["error.type"] == "CancelledError"


async def test_updates_that_are_not_read_to_the_end_end_their_span(tmp_path: Path, recorded: Recorded) -> None:
    async with open_store(f"sqlite:///{tmp_path}/x.db") as store:
        await store.save(new_delta(ContextKey("u", "c"), "a", "b", "c"))
        rows = store.updates(ContextKey("u", "c"))
        await anext(rows)
        await rows.aclose()  # type: ignore[attr-defined]  # it is a generator
    (span,) = recorded.spans("updates")
    assert span.status.status_code is StatusCode.UNSET


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


def test_nothing_is_observed_after_it_is_disabled(recorded: Recorded) -> None:
    telemetry.disable()
    with task_context({"user_id": "u", "chat_id": "c"}, database_url="sqlite:///x.db") as context:
        context.add_context_update("message", 1)
    assert recorded.spans() == []
    assert type(blocking(_opened())) is SqlStore


async def _opened() -> Any:
    async with open_store("sqlite:///x.db") as store:
        return store


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


async def test_the_guide_lists_what_is_recorded(database_url: str, recorded: Recorded, user: str) -> None:
    async with open_store(database_url) as store:
        await store.save(new_delta(ContextKey(user, "c"), "a"))
        await store.load(ContextKey(user, "c"))
        with pytest.raises(ContextNotFoundError):
            await store.revisions(ContextKey(user, "none"))
    spans, metrics = (DOCS / "guides" / "telemetry.md").read_text().split("\n## Metrics\n")
    rare = {"taskctx.client.retries", "taskctx.client.outages", "taskctx.client.outage.duration"}
    assert set(re.findall(r"^\| `([\w.]+)` \|", metrics, re.MULTILINE)) == recorded.metrics() | rare
    listed = set(re.findall(r"`([a-z_]+\.[\w.]+)`", spans))
    assert {name for span in recorded.spans() for name in span.attributes or {}} <= listed


def test_it_is_imported_only_when_it_is_enabled() -> None:
    code = (
        "import sys, taskctx_sql\n"
        "from taskctx_sql import schema, telemetry, transfer\n"
        "with taskctx_sql.task_context({'user_id': 'u', 'chat_id': 'c'}, database_url='sqlite:///x.db') as context:\n"
        "    context.add_context_update('message', 1)\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
        "telemetry.enable()\n"
        "print('opentelemetry.trace' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "True"]


def test_without_the_package_an_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("opentelemetry", "taskctx_sql.telemetry."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(MissingPackageError, match=r"taskctx_sql\[opentelemetry\]"):
        telemetry.enable()
