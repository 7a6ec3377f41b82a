"""What only the SQL store has: what it sends, what it records, and its settings."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql import ContextKey, SqlStore, TaskContext, open_store
from taskctx_sql.model import Loaded, Selection
from taskctx_sql.sql import delete, engines, load, row_codec
from taskctx_sql.sql.plan import Plan, execute
from taskctx_sql.sql.schema import tables
from tests.support.contract import expect_reload, loaded, new_delta


@pytest.fixture
async def store(sql_store: SqlStore) -> SqlStore:
    """A store on an engine that the test can listen to, of each database in turn."""
    return sql_store


class Statements:
    """Every statement that an engine sends, in order, except notifications."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.sent: list[str] = []
        sa.event.listen(engine.sync_engine, "before_cursor_execute", self._note)

    def _note(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if "pg_notify" not in statement:
            self.sent.append(statement)

    def take(self) -> list[str]:
        taken, self.sent = self.sent, []
        return taken


# Cost.


@pytest.mark.wide
async def test_a_save_sends_the_same_statements_at_100_000_updates_as_at_none(
    store: SqlStore, engine: AsyncEngine, user: str
) -> None:
    context = await loaded(store, user)
    await context.save()
    sent = Statements(engine)

    async def step() -> list[str]:
        context.add_context_update("message", "one more")
        await context.save()
        return sent.take()

    empty = await step()
    for number in range(100_000):
        context.add_context_update("message", number)
    await context.save()
    sent.take()
    assert await step() == empty
    assert len(empty) <= 6
    part = await loaded(store, user, history_limit=10)
    sent.take()
    part.add_context_update("message", "from a part")
    await part.save()
    assert sent.take() == empty


async def test_a_write_on_sqlite_takes_the_lock_at_its_beginning(
    store: SqlStore, engine: AsyncEngine, user: str
) -> None:
    sent = Statements(engine)
    expected = ["BEGIN IMMEDIATE", "BEGIN IMMEDIATE", "BEGIN"] if engines.is_sqlite(engine) else []
    await store.save(new_delta(ContextKey(user, "c"), "a"))
    await store.delete(ContextKey(user, "c"))
    await store.load(ContextKey(user, "c"))
    assert [statement for statement in sent.take() if statement.startswith("BEGIN")] == expected


async def test_a_load_sends_as_many_statements_however_long_the_history_is(
    store: SqlStore, engine: AsyncEngine, user: str
) -> None:
    context = await loaded(store, user)
    context.add_context_update("message", 1)
    await context.save()
    sent = Statements(engine)
    await loaded(store, user)
    short = sent.take()
    for number in range(3000):
        context.add_context_update("message", number)
    await context.save()
    sent.take()
    await loaded(store, user)
    assert sent.take() == short


@pytest.mark.wide
async def test_removing_many_rows_is_few_statements(store: SqlStore, user: str) -> None:
    context = await loaded(store, user)
    for number in range(70_000):
        context.add_context_update("message", number % 9)
    await context.save()
    assert context.optimize_context(max_size=100)
    await context.save()
    await expect_reload(store, context)


async def test_reading_the_newest_uses_the_key(engine: AsyncEngine, store: SqlStore, user: str) -> None:
    context = await loaded(store, user)
    for number in range(2000):
        context.add_context_update("message", number)
    await context.save()
    condition = "WHERE context_id = :id AND removed_in IS NULL ORDER BY seq DESC LIMIT 10"
    explain = "EXPLAIN QUERY PLAN" if engines.is_sqlite(engine) else "EXPLAIN"
    async with engine.connect() as connection:
        if not engines.is_sqlite(engine):
            # Few rows are sorted as fast; whether the key can serve the order is what counts at many.
            await connection.execute(sa.text("SET LOCAL citus.propagate_set_commands = 'local'"))
            for name in ("enable_seqscan", "enable_bitmapscan", "enable_sort"):
                await connection.execute(sa.text(f"SET LOCAL {name} = off"))
        found = await connection.execute(
            sa.text(f"{explain} SELECT data FROM taskctx_updates {condition}"),
            {"id": row_codec.context_id(context.key)},
        )
        plan = " ".join(str(row) for row in found)
    assert "taskctx_updates_pkey" in plan or "USING INDEX sqlite_autoindex_taskctx_updates" in plan
    assert "SORT" not in plan.upper().replace("SORTED", "")
    assert "TEMP B-TREE" not in plan


# The record.


async def test_removed_is_not_erased(store: SqlStore, user: str) -> None:
    context = await loaded(store, user)
    for number in range(6):
        context.add_context_update("message", f"m{number}")
    await context.save()
    context.context_history = context.context_history[3:]
    context.context_history[0].data = "edited"
    await context.save()
    found = await store.query(
        sa.select(tables.updates.c.seq, tables.updates.c.data, tables.updates.c.added_in, tables.updates.c.removed_in)
        .where(tables.updates.c.context_id == row_codec.context_id(context.key))
        .order_by(tables.updates.c.seq)
    )
    assert [tuple(row) for row in found] == [
        (1, '"m0"', 1, 2),
        (2, '"m1"', 1, 2),
        (3, '"m2"', 1, 2),
        (4, '"m3"', 1, 2),
        (5, '"m4"', 1, 2),
        (6, '"m5"', 1, 2),
        (7, '"edited"', 2, None),
        (8, '"m4"', 2, None),
        (9, '"m5"', 2, None),
    ]


async def test_a_file_keeps_every_version_of_itself(store: SqlStore, user: str) -> None:
    context = await loaded(store, user)
    context.track_file_operation("a", "read")
    await context.save()
    context.track_file_operation("a", "write")
    await context.save()
    del context.file_tracker["a"]
    await context.save()
    columns = (tables.files.c.operation, tables.files.c.added_in, tables.files.c.removed_in)
    found = await store.query(
        sa.select(*columns)
        .where(tables.files.c.context_id == row_codec.context_id(context.key))
        .order_by(tables.files.c.added_in)
    )
    assert [tuple(row) for row in found] == [("read", 1, 2), ("write", 2, 3)]


async def test_paths_of_any_length_and_type_are_kept(store: SqlStore, user: str) -> None:
    context = await loaded(store, user)
    paths: list[Any] = ["x" * 4096, "深" * 1365, "a\x00b", "\ud800", Path("a/b"), 7, None, ("t",), "a'b"]
    for path in paths:
        context.track_file_operation(path, "read")
    await context.save()
    again = await loaded(store, user)
    assert list(again.file_tracker) == paths


async def test_runs_are_recorded_with_their_saves(store: SqlStore, user: str) -> None:
    for number in range(3):
        async with TaskContext({"user_id": user, "chat_id": "c1"}, store=store) as context:
            for step in range(number):
                context.add_context_update("message", step)
                await context.save()
    async with TaskContext({"user_id": user, "chat_id": "c1"}, store=store) as context:
        context.add_context_update("message", "goes on")
        await context.save()
        found = await store.reports.context_runs(ContextKey(user, "c1"))
    assert [(run.saves, run.updates, run.outcome) for run in found] == [
        (1, 0, "completed"),
        (2, 1, "completed"),
        (3, 2, "completed"),
        (1, 1, "unfinished"),
    ]


async def test_the_reports_tell_what_happened(store: SqlStore, user: str) -> None:
    context = await loaded(store, user)
    for number in range(5):
        context.add_context_update("message", number)
    context.track_file_operation("a", "read")
    context.track_file_operation("b", "read")
    context.track_file_operation("b", "write")
    await context.save()
    context.context_history = []
    await context.save()
    timeline = await store.reports.timeline(context.key, limit=3)
    assert [(entry.seq, entry.update_type, entry.removed) for entry in timeline] == [
        (seq, "file_operation", True) for seq in (6, 7, 8)
    ]
    assert [(c.name, c.count) for c in await store.reports.updates_by_type(context.key)] == [
        ("message", 5),
        ("file_operation", 3),
    ]
    assert [(c.name, c.count) for c in await store.reports.files_by_operation(context.key)] == [
        ("read", 1),
        ("write", 1),
    ]


async def test_a_load_is_of_one_moment_whatever_is_saved_meanwhile(
    store: SqlStore, engine: AsyncEngine, user: str
) -> None:
    context = await loaded(store, user)
    for number in range(4):
        context.add_context_update("message", number)
    context.track_file_operation("a", "read")
    await context.save()
    loading = load.load(engine.dialect.name, context.key, Selection())
    step = next(loading)

    def first() -> Plan[Sequence[Any] | None]:
        return (yield step)

    async with engines.transaction(engine, write=False) as connection:
        head = await execute(first(), connection)
    del context.context_history[0]
    context.add_context_update("message", "later")
    context.track_file_operation("a", "write")
    await context.save()

    def begun() -> Plan[Loaded]:
        step = loading.send(head)
        while True:
            found = yield step
            try:
                step = loading.send(found)
            except StopIteration as end:
                result: Loaded = end.value
                return result

    async with engines.transaction(engine, write=False) as connection:
        found = await execute(begun(), connection)
    assert [row.seq for row in found.updates] == [1, 2, 3, 4, 5]
    assert [entry["operation"] for _, _, entry in found.files] == ["read"]


# Settings that the promises rest on.


async def test_sqlite_is_set_up_for_durability(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path}/x.db") as store:
        assert isinstance(store, SqlStore)
        async with store._backend.engine.connect() as connection:
            found = [
                (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
                for name in ("journal_mode", "synchronous", "busy_timeout")
            ]
    assert found == ["wal", 2, 15_000]


async def test_a_deletion_that_finds_no_context_leaves_the_one_that_is_created_meanwhile(
    postgres_url: str, user: str
) -> None:
    key = ContextKey(user, "c1")

    async def save_elsewhere() -> None:
        async with open_store(postgres_url) as other:
            await other.save(new_delta(key, "a"))

    def deleting() -> Plan[bool]:
        plan = delete.delete(key)
        found = yield next(plan)
        with ThreadPoolExecutor() as threads:
            threads.submit(asyncio.run, save_elsewhere()).result()
        try:
            step = plan.send(found)
            while True:
                step = plan.send((yield step))
        except StopIteration as end:
            return bool(end.value)

    async with open_store(postgres_url) as store:
        assert isinstance(store, SqlStore)
        assert not await store.write_plan("delete", deleting)
        assert [update.data for update in (await store.load(key)).history] == ["a"]
        assert await store.delete(key)
        # Nothing of it is left behind that a context of the same name would meet.
        await store.save(new_delta(key, "b"))
