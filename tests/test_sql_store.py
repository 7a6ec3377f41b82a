"""What only the SQL store has: statements, retries, connections, event loops."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from taskctx_sql import ContextKey, SqlStore, TaskContext, blocking, current, open_store, upgrade
from taskctx_sql.errors import (
    CorruptRecordError,
    LostContextError,
    StoreFailedError,
    StoreUnavailableError,
    WrongEventLoopError,
)
from taskctx_sql.records import FileChange
from taskctx_sql.sql import dialect, reports, rows, statements, tables
from tests.contract import expect_reload, loaded, new_delta, new_run, stored


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine with our settings, that the test can listen to."""
    made = dialect.create_engine(dialect.parse_url(database_url))
    await upgrade(made)
    yield made
    await made.dispose()


@pytest.fixture
async def store(engine: AsyncEngine) -> AsyncIterator[SqlStore]:
    opened = await SqlStore.open(engine, retry_seconds=5)
    yield opened
    await opened.close()


class Statements:
    """Every statement that an engine sends, in order."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.sent: list[str] = []
        sa.event.listen(engine.sync_engine, "before_cursor_execute", self._note)

    def _note(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        self.sent.append(statement)

    def take(self) -> list[str]:
        taken, self.sent = self.sent, []
        return taken


# Cost.


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
    assert len(empty) <= 4
    part = await loaded(store, user, history_limit=10)
    sent.take()
    part.add_context_update("message", "from a part")
    await part.save()
    assert sent.take() == empty


async def test_a_write_on_sqlite_takes_the_lock_at_its_beginning(tmp_path: Path, user: str) -> None:
    async with open_store(f"sqlite:///{tmp_path}/x.db") as store:
        assert isinstance(store, SqlStore)
        sent = Statements(store._engine)
        await store.save(new_delta(ContextKey(user, "c"), "a"))
        assert sent.take()[0] == "BEGIN IMMEDIATE"
        await store.delete(ContextKey(user, "c"))
        assert sent.take()[0] == "BEGIN IMMEDIATE"
        await store.load(ContextKey(user, "c"))
        assert sent.take()[0] == "BEGIN"


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
    explain = "EXPLAIN QUERY PLAN" if dialect.is_sqlite(engine) else "EXPLAIN"
    async with engine.connect() as connection:
        if not dialect.is_sqlite(engine):
            # Few rows are sorted as fast; whether the key can serve the order is what counts at many.
            for name in ("enable_seqscan", "enable_bitmapscan", "enable_sort"):
                await connection.execute(sa.text(f"SET LOCAL {name} = off"))
        found = await connection.execute(
            sa.text(f"{explain} SELECT data FROM taskctx_updates {condition}"), {"id": rows.context_id(context.key)}
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
        .where(tables.updates.c.context_id == rows.context_id(context.key))
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
        .where(tables.files.c.context_id == rows.context_id(context.key))
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
    found = await reports.context_runs(store, ContextKey(user, "c1"))
    assert [(run.saves, run.updates, run.outcome) for run in found] == [
        (1, 0, "completed"),
        (2, 1, "completed"),
        (3, 2, "completed"),
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
    timeline = await reports.timeline(store, context.key, limit=3)
    assert [(entry.seq, entry.update_type, entry.removed) for entry in timeline] == [
        (seq, "file_operation", True) for seq in (6, 7, 8)
    ]
    assert [(c.name, c.count) for c in await reports.updates_by_type(store, context.key)] == [
        ("message", 5),
        ("file_operation", 3),
    ]
    assert [(c.name, c.count) for c in await reports.files_by_operation(store, context.key)] == [
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
    ident = rows.context_id(context.key)
    async with dialect.transaction(engine, write=False) as connection:
        head = await statements.read_context(connection, ident)
    assert head is not None
    del context.context_history[0]
    context.add_context_update("message", "later")
    context.track_file_operation("a", "write")
    await context.save()
    async with dialect.transaction(engine, write=False) as connection:
        updates = await statements.read_updates(connection, ident, revision=head.revision)
        files = await statements.read_files(connection, ident, head.revision)
    assert [row.seq for row in updates] == [1, 2, 3, 4, 5]
    assert [row.operation for row in files] == ["read"]


# Settings that the promises rest on.


async def test_sqlite_is_set_up_for_durability(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path}/x.db") as store:
        assert isinstance(store, SqlStore)
        async with store._engine.connect() as connection:
            found = [
                (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
                for name in ("journal_mode", "synchronous", "busy_timeout")
            ]
    assert found == ["wal", 2, 60_000]


# Failures.


async def test_a_locked_sqlite_file_is_waited_for(tmp_path: Path, user: str) -> None:
    path = tmp_path / "x.db"
    async with open_store(f"sqlite:///{path}") as store:
        holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        holder.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.5, lambda: holder.execute("ROLLBACK"))
        timer.start()
        await store.save(new_delta(ContextKey(user, "c"), "waited"))
        assert await stored(store, ContextKey(user, "c")) == ["waited"]
        timer.join()
        holder.close()


async def test_opening_a_file_again_keeps_the_locks_that_this_process_has(tmp_path: Path, user: str) -> None:
    path = tmp_path / "x.db"
    async with open_store(f"sqlite:///{path}") as store:
        await store.save(new_delta(ContextKey(user, "c"), "a"))
        await current(f"sqlite:///{path}")
        async with open_store(f"sqlite:///{path}"):
            pass
        # Closing any descriptor of a file drops the process's locks on it. Then this stranger would be the last one
        # out, as far as it can see, and take the log away with it.
        stranger = (
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM taskctx_runs'); c.close()"
        )
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", stranger, str(path))
        assert await process.wait() == 0
        assert Path(f"{path}-wal").exists()
        await store.save(new_delta(ContextKey(user, "c"), "b"))
        assert await stored(store, ContextKey(user, "c")) == ["a", "b"]


async def test_a_lock_that_stays_is_told_with_the_time_waited(
    tmp_path: Path, user: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dialect, "SQLITE_BUSY_SECONDS", 0.05)
    path = tmp_path / "x.db"
    store = await open_store(f"sqlite:///{path}", retry_seconds=0.5)
    context = await loaded(store, user)
    context.add_context_update("message", "kept")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="what is unsaved is kept") as caught:
        await context.save()
    assert 0.2 < caught.value.waited < 5
    assert not caught.value.outcome_unknown
    assert caplog.text.count("trying again") == 1
    holder.execute("ROLLBACK")
    holder.close()
    await context.save()
    assert await stored(store, context.key) == ["kept"]
    await store.close()


async def test_a_postgres_that_is_away_is_told_with_the_time_waited() -> None:
    with pytest.raises(StoreUnavailableError, match="within"):
        await open_store("postgresql://nobody:hidden@127.0.0.1:1/none", retry_seconds=0.3)


async def test_connections_that_the_server_ends_are_replaced(postgres_url: str, user: str) -> None:
    async with open_store(postgres_url) as store:
        assert isinstance(store, SqlStore)
        context = await loaded(store, user)
        killer = create_async_engine(dialect.parse_url(postgres_url), isolation_level="AUTOCOMMIT")
        for number in range(5):
            context.add_context_update("message", number)
            await context.save()
            async with killer.connect() as connection:
                await connection.exec_driver_sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
        await killer.dispose()
        context.add_context_update("message", 5)
        await context.save()
        assert await stored(store, context.key) == [0, 1, 2, 3, 4, 5]
        assert store._engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_a_server_that_is_killed_at_any_time_costs_nothing_and_doubles_nothing(
    postgres_url: str, user: str
) -> None:
    async with open_store(postgres_url) as store:
        context = await loaded(store, user)
        killer = create_async_engine(dialect.parse_url(postgres_url), isolation_level="AUTOCOMMIT")
        done = asyncio.Event()

        async def kill() -> None:
            async with killer.connect() as connection:
                while not done.is_set():
                    await connection.exec_driver_sql(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                    await asyncio.sleep(0.02)

        killing = asyncio.create_task(kill())
        for number in range(150):
            context.add_context_update("message", number)
            await context.save()
        done.set()
        await killing
        await killer.dispose()
        assert await stored(store, context.key) == list(range(150))
        rows_found = [row.seq async for row in store.updates(context.key)]
        assert rows_found == list(range(1, 151))


@pytest.mark.parametrize("failures", [1, 3])
async def test_a_commit_that_breaks_leaves_the_save_in_doubt_and_it_is_written_once(
    engine: AsyncEngine, user: str, failures: int
) -> None:
    store = await SqlStore.open(engine, retry_seconds=0)
    context = await loaded(store, user)
    left = [failures]

    def break_off(connection: Any) -> None:
        if left[0]:
            left[0] -= 1
            raise OSError("the connection broke")

    sa.event.listen(engine.sync_engine, "commit", break_off)
    context.add_context_update("message", "a")
    for _ in range(failures):
        with pytest.raises(StoreUnavailableError) as caught:
            await context.save()
        assert caught.value.outcome_unknown
        context.add_context_update("message", "later")
    await context.save()
    assert await stored(store, context.key) == ["a", *["later"] * failures]
    await store.close()


async def test_an_error_of_the_engine_does_not_show_what_was_to_be_written(store: SqlStore, user: str) -> None:
    secret = " ".join(["a", "secret", "text"])
    async with store._engine.begin() as connection:
        await connection.exec_driver_sql("ALTER TABLE taskctx_updates RENAME TO elsewhere")
    try:
        with pytest.raises(StoreFailedError) as caught:
            await store.save(new_delta(ContextKey(user, "c"), secret))
        assert secret not in "".join(traceback.format_exception(caught.value))
        assert "taskctx_updates" in str(caught.value)
        assert caught.value.__cause__ is not None
    finally:
        async with store._engine.begin() as connection:
            await connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO taskctx_updates")
    assert await stored(store, ContextKey(user, "c")) == []


@pytest.mark.parametrize(
    ("table", "column", "where"),
    [
        ("updates", "data", "update seq 1"),
        ("updates", "metadata", "update seq 1"),
        ("updates", "exact", "update seq 1"),
        ("files", "exact", "file 'a'"),
        ("models", "exact", "model use seq 1"),
        ("contexts", "metadata", "metadata"),
        ("contexts", "metadata_toggles", "metadata_toggles"),
    ],
)
async def test_a_row_that_cannot_be_read_is_named(
    store: SqlStore, user: str, table: str, column: str, where: str
) -> None:
    context = await loaded(store, user)
    context.track_file_operation("a", "read")
    context.track_model_usage("m", "p", "x")
    await context.save()
    ident = rows.context_id(context.key)
    async with store._engine.begin() as connection:
        statement = sa.text(f"UPDATE taskctx_{table} SET {column} = '{{broken' WHERE context_id = :id")
        await connection.execute(statement, {"id": ident})
    with pytest.raises(CorruptRecordError) as caught:
        await store.load(context.key)
    assert caught.value.where == where
    other = await loaded(store, user, "another chat")
    assert other.context_history == []


async def test_a_run_counter_that_went_back_is_an_error_and_writes_nothing(store: SqlStore, user: str) -> None:
    key = ContextKey(user, "c")
    run = new_run()
    first = await store.save(new_delta(key, "a", run=run))
    third = type(run)(run.run_id, 3, run.started_at)
    with pytest.raises(LostContextError):
        await store.save(new_delta(key, "c", run=third, base=first.base))
    assert await stored(store, key) == ["a"]


# Cancellation.


async def test_a_storm_of_cancellations_leaves_whole_saves_and_no_connection(store: SqlStore, user: str) -> None:
    key = ContextKey(user, "c")

    async def save(number: int) -> None:
        entry = {"operation": str(number)}
        await store.save(new_delta(key, [number, 1], [number, 2], files=[FileChange(number, entry, None)]))

    tasks = []
    for number in range(120):
        tasks.append(asyncio.create_task(save(number)))
        await asyncio.sleep(0.0003)
        tasks[number // 2].cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert any(isinstance(end, asyncio.CancelledError) for end in ends)
    loaded_now = await store.load(key)
    datas = [tuple(row.update.data) for row in loaded_now.updates]
    assert len(datas) == 2 * len(loaded_now.files)
    assert len(set(datas)) == len(datas)
    for number, end in enumerate(ends):
        if end is None:
            assert (number, 1) in datas
    assert store._engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    started = time.monotonic()
    await store.save(new_delta(key, [-1, 1], [-1, 2]))
    assert time.monotonic() - started < 5


# Event loops, processes, and stores that nobody closed.


def test_another_event_loop_is_told(database_url: str, user: str) -> None:
    with open_store(database_url) as store:
        with pytest.raises(WrongEventLoopError, match="one store in each"):
            asyncio.run(store.load(ContextKey(user, "c")))
        assert blocking(store.load(ContextKey(user, "c"))).revision == 0


def test_a_child_of_a_fork_is_told(tmp_path: Path) -> None:
    code = f"""
import asyncio, os
from taskctx_sql import ContextKey, open_store
from taskctx_sql.errors import WrongEventLoopError
async def main():
    async with open_store("sqlite:///{tmp_path}/x.db") as store:
        child = os.fork()
        if child == 0:
            try:
                await store.load(ContextKey("u", "c"))
            except WrongEventLoopError:
                os._exit(42)
            os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print((await store.load(ContextKey("u", "c"))).revision)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["42", "0"], done.stderr


@pytest.mark.parametrize("how", ["await open_store(url)", "open_store(url).__enter__()"])
def test_the_interpreter_ends_at_once_when_a_store_was_never_closed(database_url: str, how: str) -> None:
    opening = f"store = {how}" if how.startswith("await") else "store = await asyncio.to_thread(lambda: " + how + ")"
    code = f"""
import asyncio, sys
from taskctx_sql import ContextKey, open_store
kept = []
async def main():
    url = sys.argv[1]
    {opening}
    kept.append(store)
    print("opened")
asyncio.run(main())
"""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, database_url], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "opened", done.stderr
    assert done.returncode == 0
    assert time.monotonic() - started < 30


async def test_a_store_that_was_never_closed_is_warned_of(tmp_path: Path) -> None:
    store = await open_store(f"sqlite:///{tmp_path}/x.db")
    assert isinstance(store, SqlStore)
    engine = store._engine
    forgotten = [store]
    del store
    with pytest.warns(ResourceWarning, match="was never closed"):
        forgotten.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        await engine.dispose()


async def test_a_password_is_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    url = "postgresql://me:hidden@127.0.0.1:1/none?password=hidden"
    with pytest.raises(StoreUnavailableError) as caught:
        await open_store(url, retry_seconds=0.1)
    store = SqlStore(dialect.create_engine(dialect.parse_url(url)))
    for text in (str(caught.value), repr(caught.value), repr(store), store.address, caplog.text):
        assert "hidden" not in text
    await store.close()


def test_the_home_of_a_store_is_a_process(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/x.db") as store:
        assert isinstance(store, SqlStore)
        assert store._home[0] == os.getpid()
