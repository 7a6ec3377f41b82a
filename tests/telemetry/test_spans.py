"""Spans and durations: what they say of each call of a store."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from taskctx_sql import ContextKey, JsonStore, SqlStore, TaskContext, blocking, maintenance, open_store, task_context
from taskctx_sql.errors import UnsupportedByStoreError
from taskctx_sql.model import Retention, Write
from taskctx_sql.sql.save import SaveRequest
from taskctx_sql.sql.save.group_commit import GroupCommit, in_tasks
from tests.conftest import Opener
from tests.support.connections import SCHEMA
from tests.support.contract import all_rows, new_delta
from tests.support.third_store import guide_code, install
from tests.telemetry.recorded import OUR_BUCKETS, Recorded


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
