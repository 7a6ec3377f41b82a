"""The schema: migrations build exactly the declared tables, on both engines, and leave all else alone."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from taskctx_sql import ContextKey, SqlStore, TaskContext, codec, open_store, schema, task_context
from taskctx_sql.errors import (
    ForeignSchemaError,
    InvalidDatabaseUrlError,
    NotADatabaseError,
    RowLevelSecurityUnavailableError,
    SchemaMissingError,
    SchemaTooNewError,
    SchemaTooOldError,
    StoreFailedError,
    StoreUnavailableError,
)
from taskctx_sql.maintenance import examine
from taskctx_sql.sql import engines, row_codec
from taskctx_sql.sql.schema import HEAD, REVISIONS, migrate, migrations, tables
from taskctx_sql.sql.schema.filters import is_ours
from tests.conftest import ENGINES, wide
from tests.support import accounts
from tests.support.contract import loaded, new_delta, stored
from tests.support.waiting import SOON

CHECKOUT = Path(__file__).parents[3]
OURS = {*tables.metadata.tables, tables.VERSION_TABLE}
# The reports' indexes are by expressions, which SQLAlchemy does not read from SQLite.
NOT_READ = "ignore:Skipped unsupported reflection of expression-based index taskctx_"
REPORT_INDEXES = {
    *(f"taskctx_{name}_day_idx" for name in ("contexts", "updates", "files", "models", "runs")),
    *("taskctx_updates_error_idx", "taskctx_updates_errors_of_idx", "taskctx_updates_call_idx"),
    "taskctx_runs_failed_idx",
}


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new.db"
    return str(request.getfixturevalue(f"empty_{request.param}_url"))


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    """An engine of the caller's own, made without us."""
    made = create_async_engine(engines.parse_url(url))
    yield made
    await made.dispose()


async def look(engine: AsyncEngine, question: Any) -> Any:
    async with engine.connect() as connection:
        return await connection.run_sync(question)


def table_names(connection: sa.Connection) -> set[str]:
    return set(sa.inspect(connection).get_table_names())


async def run(engine: AsyncEngine, *statements: str) -> None:
    async with engine.begin() as connection:
        for statement in statements:
            await connection.exec_driver_sql(statement)


# What the migrations build.


@pytest.mark.filterwarnings(NOT_READ)
async def test_the_migrations_build_exactly_the_declared_tables(url: str, engine: AsyncEngine) -> None:
    await schema.upgrade(url)

    def differences(connection: sa.Connection) -> list[Any]:
        options = {
            "compare_type": True,
            "compare_server_default": True,
            "version_table": tables.VERSION_TABLE,
            "include_name": is_ours,
        }
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), tables.metadata))

    assert await look(engine, differences) == []
    assert await look(engine, table_names) == OURS


async def test_the_constraints_and_indexes_have_the_same_names_on_both_engines(url: str, engine: AsyncEngine) -> None:
    await schema.upgrade(url)

    def names(connection: sa.Connection) -> set[str | None]:
        inspector = sa.inspect(connection)
        return {inspector.get_pk_constraint(name)["name"] for name in tables.metadata.tables}

    def indexes(connection: sa.Connection) -> set[str]:
        catalog = {
            "sqlite": "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
            "postgresql": "SELECT indexname FROM pg_indexes WHERE indexname LIKE 'taskctx%idx'",
        }
        return set(connection.exec_driver_sql(catalog[connection.dialect.name]).scalars())

    assert await look(engine, names) == {f"{name}_pkey" for name in tables.metadata.tables}
    # Of SQLite alone, where it does not make saves dearer.
    assert await look(engine, indexes) - {"taskctx_contexts_incomplete_idx"} == REPORT_INDEXES | {
        "taskctx_contexts_created_at_context_id_idx",
        "taskctx_contexts_user_id_created_at_context_id_idx",
        "taskctx_files_live_idx",
        "taskctx_state_expires_idx",
        "taskctx_state_label_idx",
        "taskctx_state_live_idx",
        "taskctx_state_parent_idx",
        "taskctx_updates_group_idx",
    }


async def test_every_key_begins_with_the_context(url: str, engine: AsyncEngine) -> None:
    await schema.upgrade(url)

    def keys(connection: sa.Connection) -> list[str]:
        inspector = sa.inspect(connection)
        return [inspector.get_pk_constraint(name)["constrained_columns"][0] for name in tables.metadata.tables]

    assert await look(engine, keys) == ["context_id"] * len(tables.metadata.tables)


@pytest.mark.filterwarnings(NOT_READ)
async def test_a_difference_between_tables_and_migrations_would_be_found(url: str, engine: AsyncEngine) -> None:
    await schema.upgrade(url)
    await run(engine, "ALTER TABLE taskctx_updates DROP COLUMN exact")
    options = {"version_table": tables.VERSION_TABLE, "include_name": is_ours}
    found = await look(engine, lambda c: compare_metadata(MigrationContext.configure(c, opts=options), tables.metadata))
    assert [change[0] for change in found] == ["add_column"]


@pytest.mark.filterwarnings(NOT_READ)
async def test_an_applications_own_migrations_ignore_our_tables(url: str, engine: AsyncEngine) -> None:
    await schema.upgrade(url)
    await run(engine, "CREATE TABLE orders (id INTEGER NOT NULL PRIMARY KEY)", "CREATE TABLE forgotten (id INTEGER)")
    declared = sa.MetaData()
    sa.Table("orders", declared, sa.Column("id", sa.Integer, primary_key=True), sa.Column("total", sa.Integer))

    def compare(connection: sa.Connection) -> list[Any]:
        opts = {"include_name": schema.include_name, "include_schemas": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=opts), declared))

    async with engine.connect() as connection:
        found = await connection.run_sync(compare)
    # What is the application's own is compared as ever.
    assert sorted((kind, getattr(what[-1], "name", None)) for kind, *what in found) == [
        ("add_column", "total"),
        ("remove_table", "forgotten"),
    ]


async def test_downgrading_leaves_nothing_and_other_tables_alone(url: str, engine: AsyncEngine) -> None:
    await run(engine, "CREATE TABLE yours (x TEXT)", "CREATE TABLE alembic_version (version_num TEXT)")
    await run(engine, "INSERT INTO yours VALUES ('kept')", "INSERT INTO alembic_version VALUES ('theirs')")
    await schema.upgrade(url)
    assert await look(engine, table_names) == OURS | {"yours", "alembic_version"}
    await schema.downgrade(url, "base")
    assert await look(engine, table_names) == {"yours", "alembic_version"}
    assert await schema.current(url) is None
    async with engine.connect() as connection:
        assert await connection.scalar(sa.text("SELECT x FROM yours")) == "kept"
        assert await connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == "theirs"
    await schema.upgrade(url)
    assert await schema.current(url) == HEAD


def test_the_known_revisions_are_those_of_the_files_in_one_line() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrate.migrations_folder()))
    scripts = ScriptDirectory.from_config(config)
    assert tuple(script.revision for script in reversed(list(scripts.walk_revisions()))) == REVISIONS
    assert scripts.get_heads() == [HEAD]


async def test_upgrading_keeps_the_data(url: str, user: str) -> None:
    await schema.upgrade(url)
    async with task_context({"user_id": user}, database_url=url) as context:
        context.add_context_update("message", "kept")
    await schema.upgrade(url)
    async with task_context({"user_id": user}, database_url=url) as context:
        assert [update.data for update in context.context_history] == ["kept"]


KEPT = sorted((Path(__file__).parents[2] / "fixtures" / "databases").glob("*.json"))


@pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.stem)
async def test_a_database_kept_from_an_earlier_revision_is_upgraded_and_loads(
    url: str, engine: AsyncEngine, kept: Path
) -> None:
    """Each file holds the rows as a release of that revision wrote them, and what the context was."""
    found = json.loads(kept.read_text())
    await schema.upgrade(url, found["revision"])
    async with engine.begin() as connection:
        # The name of a revision as it was then.
        await connection.exec_driver_sql(f"UPDATE {tables.VERSION_TABLE} SET version_num = '{found['revision']}'")
        for content in found["tables"]:
            for row in content["rows"]:
                names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
                statement = sa.text(f"INSERT INTO {content['table']} ({names}) VALUES ({marks})")
                await connection.execute(statement, row)
    assert await schema.current(url) == f"taskctx_{kept.stem}"
    await schema.upgrade(url)
    assert await schema.current(url) == HEAD
    async with task_context({"user_id": "kept", "chat_id": f"from {found['revision']}"}, database_url=url) as context:
        now = [context.to_dict(), context.metadata, context.metadata_toggles]
        assert codec.encode(now) == found["expected"]
        context.add_context_update("message", "goes on")


async def test_an_upgrade_ends_each_version_of_a_file_where_the_next_one_begins(
    url: str, engine: AsyncEngine, user: str
) -> None:
    await schema.upgrade(url, "taskctx_0004")
    key = ContextKey(user, "c")
    async with engine.begin() as connection:
        ident = row_codec.context_id(key)
        await connection.execute(
            sa.text(
                "INSERT INTO taskctx_contexts (context_id, user_id, chat_id, metadata, metadata_toggles, revision,"
                " next_seq, next_model, next_position, created_at, updated_at)"
                " VALUES (:ident, :user, :chat, '{}', '{}', 6, 1, 1, 2, 1.0, 1.0)"
            ),
            {"ident": ident, "user": user, "chat": "c"},
        )
        for revision in range(1, 7):
            await connection.execute(
                sa.text(
                    "INSERT INTO taskctx_revisions (context_id, revision, saved_at, run_id, save_number, next_seq,"
                    " next_model, next_position) VALUES (:ident, :revision, 1.0, 'r', :revision, 1, 1, 2)"
                ),
                {"ident": ident, "revision": revision},
            )
        # Two that overlapped once and were replaced together, and two that are there now; one of another path.
        for path, added, removed in (
            *(("a", 1, 4), ("a", 2, 4), ("a", 4, None), ("a", 6, None)),
            *(("b", 1, 3), ("b", 5, None)),
        ):
            await connection.execute(
                sa.text(
                    "INSERT INTO taskctx_files (context_id, path_id, added_in, removed_in, position, path, operation,"
                    " source, timestamp, state, run_id)"
                    " VALUES (:ident, :id, :added, :removed, 1, :path, :operation, 's', 1.0, 'active', 'r')"
                ),
                {"ident": ident, "id": row_codec.path_id(path), "path": path, "added": added, "removed": removed}
                | {"operation": f"op{added}"},
            )
    await schema.upgrade(url)
    async with engine.connect() as connection:
        found = await connection.execute(
            sa.text("SELECT path, added_in, removed_in FROM taskctx_files ORDER BY path, added_in")
        )
        assert [tuple(row) for row in found] == [
            *(("a", 1, 2), ("a", 2, 4), ("a", 4, 6), ("a", 6, None)),
            *(("b", 1, 3), ("b", 5, None)),
        ]
    async with open_store(url) as store:
        context = await loaded(store, user, "c")
        for then, operation in ((3, "op2"), (5, "op4"), (6, "op6")):
            await context.restore(then)
            assert context.file_tracker["a"]["operation"] == operation


def test_every_revision_has_a_database_kept_from_it() -> None:
    assert [f"taskctx_{path.stem}" for path in KEPT] == list(REVISIONS)


# The ways to upgrade.


def alembic(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "alembic", "-c", str(CHECKOUT / "alembic.ini"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


@pytest.mark.wide
async def test_alembics_own_command_upgrades_too(url: str, engine: AsyncEngine) -> None:
    done = await asyncio.to_thread(alembic, "-x", f"url={url}", "upgrade", "head")
    assert done.returncode == 0, done.stderr
    assert await look(engine, table_names) == OURS
    assert await schema.current(url) == HEAD
    done = await asyncio.to_thread(alembic, "downgrade", "base", TASKCTX_DATABASE_URL=url)
    assert done.returncode == 0, done.stderr
    assert await look(engine, table_names) == set()


def test_alembics_own_command_asks_for_a_database() -> None:
    done = alembic("upgrade", "head")
    assert done.returncode != 0
    assert "alembic -x url=sqlite:///tasks.db" in done.stderr + done.stdout
    done = alembic("-x", "url=sqlite:///tasks.db", "upgrade", "head", "--sql")
    assert done.returncode != 0
    assert "taskctx upgrade -d URL --sql" in done.stderr + done.stdout


async def test_a_callers_engine_and_connection_are_used_and_left_open(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        await schema.upgrade(connection)
        assert await schema.current(connection) == HEAD
        await connection.rollback()
    await schema.upgrade(engine)
    assert await schema.current(engine) == HEAD
    await schema.downgrade(engine, "base")
    assert await look(engine, table_names) == set()


async def test_a_callers_transaction_can_roll_an_upgrade_back(engine: AsyncEngine) -> None:
    if engine.dialect.name == "sqlite":
        # The driver's old way would commit before each CREATE TABLE.
        sa.event.listen(engine.sync_engine, "connect", lambda c, _: setattr(c, "isolation_level", None))
    async with engine.connect() as connection:
        transaction = await connection.begin()
        await schema.upgrade(connection)
        assert await connection.run_sync(table_names) == OURS
        await transaction.rollback()
    assert await look(engine, table_names) == set()


async def test_a_store_on_a_callers_engine_works_and_leaves_it_open(engine: AsyncEngine, user: str) -> None:
    await schema.upgrade(engine)
    async with open_store(engine) as store:
        assert isinstance(store, SqlStore)
        await asyncio.gather(*(store.save(new_delta(ContextKey(user, "c"), number)) for number in range(20)))
        assert sorted(await stored(store, ContextKey(user, "c"))) == list(range(20))
    assert await look(engine, table_names) == OURS


async def test_a_given_schema_contains_everything(empty_postgres_url: str, user: str) -> None:
    url, name = empty_postgres_url, 'My "tasks"'
    await schema.upgrade(url, schema=name)
    await schema.upgrade(url, schema=name)
    assert await schema.current(url, schema=name) == HEAD
    assert await schema.current(url) is None
    engine = create_async_engine(engines.parse_url(url))
    assert await look(engine, table_names) == set()
    assert await look(engine, lambda c: set(sa.inspect(c).get_table_names(schema=name))) == OURS
    await engine.dispose()
    async with open_store(url, schema=name) as store:
        context = TaskContext({"user_id": user}, store=store)
        context.add_context_update("message", "in a schema")
        await context.save()
        assert len(await store.contexts(user)) == 1
    with pytest.raises(SchemaMissingError):
        async with open_store(url):
            pass
    await schema.downgrade(url, "base", schema=name)
    assert await schema.current(url, schema=name) is None


async def test_a_callers_transaction_keeps_its_search_path(empty_postgres_url: str) -> None:
    engine = create_async_engine(engines.parse_url(empty_postgres_url))
    async with engine.begin() as connection:
        await connection.exec_driver_sql("SET LOCAL search_path TO pg_catalog, public")
        await schema.upgrade(connection, schema="tasks")
        assert (await connection.exec_driver_sql("SHOW search_path")).scalar() == "pg_catalog, public"
    assert await schema.current(engine, schema="tasks") == HEAD
    await engine.dispose()


@pytest.mark.wide
@pytest.mark.parametrize("processes", [3, *wide(6)])
async def test_upgrades_at_once_are_safe(url: str, processes: int) -> None:
    code = "import asyncio, sys, taskctx_sql; asyncio.run(taskctx_sql.schema.upgrade(sys.argv[1]))"
    started = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", code, url, stderr=asyncio.subprocess.PIPE)
        for _ in range(processes)
    ]
    ends = await asyncio.gather(
        *(process.communicate() for process in started), *(schema.upgrade(url) for _ in range(4))
    )
    assert [process.returncode for process in started] == [0] * processes, ends
    assert await schema.current(url) == HEAD


@pytest.mark.parametrize("found", [None, REVISIONS[-2]])
async def test_an_upgrade_waits_for_another_one(url: str, engine: AsyncEngine, found: str | None) -> None:
    await run(engine, "CREATE TABLE yours (x TEXT)")
    if found is not None:
        await schema.upgrade(url, found)
    async with engine.connect() as connection:
        await connection.begin()
        await connection.run_sync(migrations.take_upgrade_lock, None)
        waiting = asyncio.create_task(schema.upgrade(url))
        await asyncio.sleep(0.7)
        assert not waiting.done()
        await connection.rollback()
    await waiting
    assert await schema.current(url) == HEAD


async def test_an_account_that_only_uses_the_tables_blocks_no_upgrade(empty_postgres_url: str) -> None:
    await schema.upgrade(empty_postgres_url)
    application = await accounts.create(empty_postgres_url)
    await schema.downgrade(empty_postgres_url, REVISIONS[-2])
    holder = create_async_engine(engines.parse_url(application))
    async with holder.connect() as connection:
        await connection.execute(sa.text(f"SELECT pg_advisory_lock({migrations.UPGRADE_LOCK})"))
        await connection.execute(sa.text("SELECT version_num FROM taskctx_alembic_version"))
        await asyncio.wait_for(schema.upgrade(empty_postgres_url), 60)
        assert await schema.current(empty_postgres_url) == HEAD
        # It finds nothing to do, and needs no right to do it.
        await asyncio.wait_for(schema.upgrade(application), 60)
    await holder.dispose()
    await accounts.drop(empty_postgres_url, application)


async def test_a_new_sqlite_file_opened_by_many_at_once_is_set_up_once(tmp_path: Path, user: str) -> None:
    url = f"sqlite:///{tmp_path}/new.db"
    code = (
        "import asyncio, sys\nfrom taskctx_sql import task_context\n"
        "async def main():\n"
        "    async with task_context({'user_id': sys.argv[2]}, database_url=sys.argv[1]) as context:\n"
        "        context.add_context_update('message', 'hello')\n"
        "asyncio.run(main())\n"
    )
    started = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", code, url, user, stderr=asyncio.subprocess.PIPE)
        for _ in range(6)
    ]
    ends = await asyncio.gather(*(process.communicate() for process in started))
    assert [process.returncode for process in started] == [0] * 6, ends
    async with task_context({"user_id": user}, database_url=url) as context:
        assert len(context.context_history) == 6


# Opening what is not ours, or not of this version.


async def test_a_new_sqlite_file_is_set_up_at_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    async with open_store(f"sqlite:///{path}"):
        pass
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_database_in_memory_is_set_up_at_once(user: str) -> None:
    async with open_store("sqlite://") as store:
        await asyncio.gather(*(store.save(new_delta(ContextKey(user, "c"), number)) for number in range(10)))
        assert len(await stored(store, ContextKey(user, "c"))) == 10


async def test_a_database_without_our_tables_says_what_to_run(url: str, engine: AsyncEngine) -> None:
    await run(engine, "CREATE TABLE yours (x TEXT)")
    with pytest.raises(SchemaMissingError, match="run `taskctx upgrade"):
        await open_store(url)
    assert await look(engine, table_names) == {"yours"}


async def test_an_outdated_database_says_what_to_run(
    url: str, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    await schema.upgrade(url)
    # The day after the next release.
    monkeypatch.setattr("taskctx_sql.sql.schema.checks.HEAD", "taskctx_9999")
    with pytest.raises(SchemaTooOldError, match="run `taskctx upgrade") as caught:
        await open_store(url)
    assert (caught.value.found, caught.value.needed) == (HEAD, "taskctx_9999")


async def test_a_database_that_is_too_new_says_what_to_run(url: str, engine: AsyncEngine) -> None:
    await schema.upgrade(url)
    await run(engine, f"UPDATE {tables.VERSION_TABLE} SET version_num = 'abcd'")
    for attempt in (open_store(url), schema.upgrade(url)):
        with pytest.raises(SchemaTooNewError, match="pip install --upgrade taskctx_sql") as caught:
            await attempt
        assert caught.value.found == "abcd"


async def test_a_newer_database_that_older_programs_can_use_is_opened_and_left_as_it_is(
    url: str, engine: AsyncEngine, user: str
) -> None:
    await schema.upgrade(url)
    newer = f"taskctx_9999_from_{HEAD[-4:]}"
    await run(engine, f"UPDATE {tables.VERSION_TABLE} SET version_num = '{newer}'")
    async with open_store(url) as store:
        await store.save(new_delta(ContextKey(user, "c"), 1))
        assert await stored(store, ContextKey(user, "c")) == [1]
    await schema.upgrade(url)
    assert await schema.upgrade_sql(url) == ""
    async with engine.connect() as connection:
        await schema.upgrade(connection)
        assert not connection.in_transaction()
    (finding,) = [finding for finding in (await examine(url)).findings if finding.check == "schema"]
    assert (finding.level, finding.message.split(",")[0]) == ("ok", f"it is at {newer}")
    assert await schema.current(url) == newer
    # It cannot be changed by this version.
    for attempt in (schema.downgrade(url, "base"), schema.upgrade(url, row_level_security=True)):
        with pytest.raises((SchemaTooNewError, RowLevelSecurityUnavailableError)):
            await attempt


@pytest.mark.parametrize(
    "newer", ["taskctx_9999_from_9998", "taskctx_9999_from_", "9999_from_0007x", "taskctx_0007_from", "from_0008"]
)
async def test_a_newer_database_that_only_newer_programs_can_use_is_refused(tmp_path: Path, newer: str) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    await schema.upgrade(url)
    with sqlite3.connect(tmp_path / "x.db") as connection:
        connection.execute(f"UPDATE {tables.VERSION_TABLE} SET version_num = ?", (newer,))
    connection.close()
    for attempt in (open_store(url), schema.upgrade(url)):
        with pytest.raises(SchemaTooNewError, match=newer):
            await attempt


async def test_tables_of_our_names_that_are_not_ours_are_left_alone(url: str, engine: AsyncEngine) -> None:
    await run(engine, "CREATE TABLE taskctx_runs (x TEXT)")
    for attempt in (open_store(url), schema.upgrade(url)):
        with pytest.raises(ForeignSchemaError, match="taskctx_runs"):
            await attempt
    assert await look(engine, table_names) == {"taskctx_runs"}


async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database\n" * 100)
    url = f"sqlite:///{path}"
    for attempt in (open_store(url), schema.upgrade(url), schema.current(url)):
        with pytest.raises(NotADatabaseError, match=re.escape(str(path))):
            await attempt
    assert path.read_text() == "not a database\n" * 100


async def test_a_missing_folder_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/missing/new.db"
    for attempt in (open_store(url), schema.upgrade(url)):
        with pytest.raises(StoreFailedError, match="check that the folder exists"):
            await attempt
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("bad", [None, 5, object()])
async def test_anything_but_a_database_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidDatabaseUrlError):
        await schema.upgrade(bad)
    with pytest.raises(InvalidDatabaseUrlError):
        await open_store(bad)


async def test_an_upgrade_that_is_cancelled_while_it_waits_blocks_no_other(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path}/{number}.db" for number in range(6)]
    upgrades = [asyncio.create_task(schema.upgrade(url)) for url in urls]
    await asyncio.sleep(0)
    for waiting in upgrades[1:-1]:
        waiting.cancel()
    await asyncio.wait(upgrades)
    await asyncio.wait_for(schema.upgrade(urls[1]), 60)
    assert [await schema.current(url) for url in (urls[0], urls[1], urls[-1])] == [HEAD] * 3


async def _in_transaction(url: str, statement: str) -> tuple[AsyncEngine, AsyncConnection]:
    """Leave a stranger's transaction open, in which a statement was executed."""
    engine = create_async_engine(engines.parse_url(url))
    connection = await engine.connect()
    await connection.execute(sa.text(statement))
    return engine, connection


@pytest.mark.wide
@pytest.mark.parametrize("how", ["address", "engine"])
async def test_a_schema_change_behind_a_long_reader_lets_savers_and_readers_through(
    how: str, empty_postgres_url: str, user: str
) -> None:
    await schema.upgrade(empty_postgres_url)
    async with open_store(empty_postgres_url, retry_seconds=60) as store:
        await store.save(new_delta(ContextKey(user, "before"), "x"))
        reading, reader = await _in_transaction(empty_postgres_url, "SELECT count(*) FROM taskctx_updates")
        own = create_async_engine(engines.parse_url(empty_postgres_url))
        change = asyncio.create_task(
            schema.upgrade(own if how == "engine" else empty_postgres_url, row_level_security=True)
        )
        await asyncio.sleep(0.5)
        for number in range(3):
            async with asyncio.timeout(migrate.LOCK_SECONDS + SOON):
                await store.save(new_delta(ContextKey(user, f"c{number}"), "x"))
                assert await stored(store, ContextKey(user, "before")) == ["x"]
        assert not change.done()
        await reader.close()
        await asyncio.wait_for(change, 60)
    assert await migrate.row_level_security(empty_postgres_url)
    await reading.dispose()
    await own.dispose()


async def test_an_upgrade_lock_that_is_never_released_is_an_error(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "UPGRADE_SECONDS", 2.0)
    keeping, keeper = await _in_transaction(
        empty_postgres_url, f"SELECT pg_advisory_xact_lock({migrations.UPGRADE_LOCK})"
    )
    with pytest.raises(StoreUnavailableError, match="pg_locks"):
        await asyncio.wait_for(schema.upgrade(empty_postgres_url), 60)
    await keeper.close()
    await schema.upgrade(empty_postgres_url)
    assert await schema.current(empty_postgres_url) == HEAD
    await keeping.dispose()


async def test_an_upgrade_that_waits_for_a_lock_can_be_cancelled(empty_postgres_url: str) -> None:
    keeping, keeper = await _in_transaction(
        empty_postgres_url, f"SELECT pg_advisory_xact_lock({migrations.UPGRADE_LOCK})"
    )
    change = asyncio.create_task(schema.upgrade(empty_postgres_url))
    await asyncio.sleep(0.5)
    change.cancel()
    await asyncio.wait([change], timeout=SOON)
    assert change.cancelled()
    await keeper.close()
    await asyncio.wait_for(schema.upgrade(empty_postgres_url), 60)
    await keeping.dispose()


async def test_an_upgrade_that_waits_for_a_locked_file_blocks_no_new_file(tmp_path: Path) -> None:
    holder = sqlite3.connect(tmp_path / "locked.db", isolation_level=None)
    holder.execute("PRAGMA journal_mode = WAL")
    holder.execute("BEGIN IMMEDIATE")
    change = asyncio.create_task(schema.upgrade(f"sqlite:///{tmp_path}/locked.db"))
    await asyncio.sleep(0.5)
    async with asyncio.timeout(SOON), open_store(f"sqlite:///{tmp_path}/new.db") as store:
        await store.save(new_delta(ContextKey("u", "c"), "x"))
    assert not change.done()
    holder.execute("ROLLBACK")
    holder.close()
    await asyncio.wait_for(change, 60)
    assert await schema.current(f"sqlite:///{tmp_path}/locked.db") == HEAD


async def test_an_upgrade_of_a_locked_file_fails_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "SQLITE_BUSY_SECONDS", 2.0)
    holder = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    holder.execute("PRAGMA journal_mode = WAL")
    holder.execute("BEGIN IMMEDIATE")
    engine = create_async_engine(engines.parse_url(f"sqlite:///{tmp_path}/x.db"), connect_args={"timeout": 7})
    with pytest.raises(StoreUnavailableError, match="another process holds the file"):
        await asyncio.wait_for(schema.upgrade(engine), 60)
    holder.close()
    async with engine.connect() as connection:
        # The caller's setting is as it was.
        assert (await connection.exec_driver_sql("PRAGMA busy_timeout")).scalar() == 7_000
    await engine.dispose()


async def test_a_schema_change_that_never_ends_keeps_no_other_database_waiting(
    tmp_path: Path, empty_postgres_url: str
) -> None:
    engine = create_async_engine(engines.parse_url(empty_postgres_url))
    async with engine.connect() as connection:
        await connection.exec_driver_sql("SELECT 1")
        keeping, keeper = await _in_transaction(
            empty_postgres_url, f"SELECT pg_advisory_xact_lock({migrations.UPGRADE_LOCK})"
        )
        # On a connection of the caller's it waits for the lock as long as the caller set: forever.
        change = asyncio.create_task(schema.upgrade(connection))
        await asyncio.sleep(0.5)
        async with asyncio.timeout(SOON), open_store(f"sqlite:///{tmp_path}/new.db", retry_seconds=0.5):
            assert not change.done()
        await keeper.close()
        await asyncio.wait_for(change, 60)
    await keeping.dispose()
    await engine.dispose()


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_child_that_is_forked_during_an_upgrade_can_open_a_file(tmp_path: Path) -> None:
    holder = sqlite3.connect(tmp_path / "locked.db", isolation_level=None)
    holder.execute("PRAGMA journal_mode = WAL")
    holder.execute("BEGIN IMMEDIATE")
    change = threading.Thread(target=lambda: asyncio.run(schema.upgrade(f"sqlite:///{tmp_path}/locked.db")))
    change.start()
    # It holds the lock for most of the time that it waits.
    children = []
    for number in range(4):
        time.sleep(0.5)
        children.append(os.fork())
        if children[-1] == 0:
            signal.alarm(120)
            asyncio.run(schema.upgrade(f"sqlite:///{tmp_path}/{number}.db"))
            os._exit(42)
    ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    holder.close()
    change.join()
    assert ended == [42] * 4


async def test_a_callers_transaction_keeps_its_lock_timeout(empty_postgres_url: str) -> None:
    engine = create_async_engine(engines.parse_url(empty_postgres_url))
    async with engine.begin() as connection:
        await connection.exec_driver_sql("SET LOCAL lock_timeout = '7s'")
        await schema.upgrade(connection)
        assert (await connection.exec_driver_sql("SHOW lock_timeout")).scalar() == "7s"
    await engine.dispose()
