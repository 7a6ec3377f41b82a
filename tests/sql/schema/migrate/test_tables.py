"""The migrations build exactly the declared tables, on both engines, and keep the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql import ContextKey, codec, open_store, schema, task_context
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.schema import HEAD, REVISIONS, migrate, tables
from taskctx_sql.sql.schema.filters import is_ours
from tests.sql.schema.migrate.databases import OURS, look, run, table_names
from tests.support.contract import loaded

# The reports' indexes are by expressions, which SQLAlchemy does not read from SQLite.
NOT_READ = "ignore:Skipped unsupported reflection of expression-based index taskctx_"

REPORT_INDEXES = {
    *(f"taskctx_{name}_day_idx" for name in ("contexts", "updates", "files", "models", "runs")),
    *("taskctx_updates_error_idx", "taskctx_updates_errors_of_idx", "taskctx_updates_call_idx"),
    "taskctx_runs_failed_idx",
}


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


KEPT = sorted((Path(__file__).parents[3] / "fixtures" / "databases").glob("*.json"))


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
