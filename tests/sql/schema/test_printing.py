"""The SQL of an upgrade, printed: executed by other means it builds what the upgrade builds."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from taskctx_sql import schema
from taskctx_sql.errors import ForeignSchemaError, RowLevelSecurityUnavailableError, SchemaTooNewError
from taskctx_sql.sql.schema import HEAD, REVISIONS, tables
from tests.conftest import wide
from tests.support.command import taskctx
from tests.support.psql import psql

STARTS = [None, *wide(*REVISIONS[:-2]), REVISIONS[-2]]

# All that a schema has, each as Postgres writes it.
CATALOG = {
    "columns": "SELECT table_name, column_name, ordinal_position, data_type, is_nullable, column_default"
    " FROM information_schema.columns WHERE table_schema = $1",
    "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace::regnamespace::text = quote_ident($1)",
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = $1",
    "views": "SELECT relname, reloptions, relrowsecurity, CASE relkind WHEN 'v' THEN pg_get_viewdef(oid) END"
    " FROM pg_class WHERE relnamespace::regnamespace::text = quote_ident($1)",
    "policies": "SELECT tablename, policyname, qual, with_check FROM pg_policies WHERE schemaname = $1",
    "functions": "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace::regnamespace::text = quote_ident($1)",
}


@pytest.fixture
async def connection(empty_postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database with nothing in it."""
    opened = await asyncpg.connect(empty_postgres_url)
    yield opened
    await opened.close()


async def everything(connection: asyncpg.Connection, name: str) -> dict[str, list[str]]:
    """All that a schema of Postgres has."""
    found = {part: sorted(map(repr, await connection.fetch(query, name))) for part, query in CATALOG.items()}
    if await connection.fetchval("SELECT to_regclass($1)", f'"{name}".{tables.VERSION_TABLE}'):
        found["revision"] = list(map(repr, await connection.fetch(f'SELECT * FROM "{name}".{tables.VERSION_TABLE}')))
    return found


def in_file(path: Path) -> list[Any]:
    """All that a file of SQLite has; the whitespace of a statement is kept there."""
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        found += connection.execute(f"SELECT 'revision', '', version_num FROM {tables.VERSION_TABLE}").fetchall()
    connection.close()
    return sorted((kind, name, " ".join((sql or "").split())) for kind, name, sql in found)


@pytest.mark.parametrize("name", ["public", "My tasks"])
@pytest.mark.parametrize("start", STARTS)
async def test_on_postgres_the_printed_upgrade_builds_what_the_upgrade_builds(
    empty_postgres_url: str, connection: asyncpg.Connection, start: str | None, name: str
) -> None:
    url, given = empty_postgres_url, None if name == "public" else name
    if start is not None:
        await schema.upgrade(url, start, schema=given)
    before = await everything(connection, name)
    printed = await schema.upgrade_sql(url, schema=given)
    assert await everything(connection, name) == before
    await schema.upgrade(url, schema=given)
    upgraded = await everything(connection, name)
    assert all(upgraded[part] for part in CATALOG if part != "policies")
    with pytest.raises(AssertionError, match="the schema is not at" if start else "already exists"):
        await psql(url, printed)
    assert await everything(connection, name) == upgraded
    await schema.downgrade(url, "base", schema=given)
    if start is not None:
        await schema.upgrade(url, start, schema=given)
    await psql(url, printed)
    assert await everything(connection, name) == upgraded
    assert await schema.current(url, schema=given) == HEAD
    assert await schema.upgrade_sql(url, schema=given) == ""


@pytest.mark.parametrize("start", STARTS)
async def test_on_sqlite_the_printed_upgrade_builds_what_the_upgrade_builds(tmp_path: Path, start: str | None) -> None:
    one, other = tmp_path / "one.db", tmp_path / "other.db"
    if start is not None:
        for path in (one, other):
            await schema.upgrade(f"sqlite:///{path}", start)
    printed = await schema.upgrade_sql(f"sqlite:///{one}")
    assert one.exists() == (start is not None)
    assert await schema.current(f"sqlite:///{one}") == start
    with sqlite3.connect(one) as connection:
        connection.executescript(printed)
    connection.close()
    await schema.upgrade(f"sqlite:///{other}")
    assert in_file(one) == in_file(other)
    assert await schema.upgrade_sql(f"sqlite:///{one}") == ""


async def test_row_level_security_is_printed_too(empty_postgres_url: str, connection: asyncpg.Connection) -> None:
    url = empty_postgres_url
    await schema.upgrade(url)
    without = await everything(connection, "public")
    await schema.upgrade(url, row_level_security=True)
    guarded = await everything(connection, "public")
    assert guarded["policies"]
    await psql(url, await schema.upgrade_sql(url, row_level_security=False))
    assert await everything(connection, "public") == without
    await psql(url, await schema.upgrade_sql(url, row_level_security=True))
    assert await everything(connection, "public") == guarded
    assert await schema.upgrade_sql(url) == ""
    # What an upgrade creates or changes is guarded again.
    await schema.downgrade(url, "taskctx_0002")
    await psql(url, await schema.upgrade_sql(url))
    again = await everything(connection, "public")
    # The columns that were dropped and added are the last ones now.
    assert again | {"columns": []} == guarded | {"columns": []}
    await schema.downgrade(url, "base")
    await psql(url, await schema.upgrade_sql(url, row_level_security=True))
    assert await everything(connection, "public") == guarded


async def test_a_function_that_was_changed_is_printed(empty_postgres_url: str, connection: asyncpg.Connection) -> None:
    await schema.upgrade(empty_postgres_url)
    before = await everything(connection, "public")
    await connection.execute("ALTER FUNCTION taskctx_save_v1(text, text, boolean) SECURITY DEFINER")
    await psql(empty_postgres_url, await schema.upgrade_sql(empty_postgres_url))
    assert await everything(connection, "public") == before


async def test_what_an_upgrade_refuses_is_not_printed(empty_postgres_url: str, connection: asyncpg.Connection) -> None:
    await connection.execute("CREATE TABLE taskctx_runs (x TEXT)")
    with pytest.raises(ForeignSchemaError, match="taskctx_runs"):
        await schema.upgrade_sql(empty_postgres_url)
    await connection.execute("DROP TABLE taskctx_runs")
    await schema.upgrade(empty_postgres_url)
    await connection.execute(f"UPDATE {tables.VERSION_TABLE} SET version_num = 'abcd'")
    with pytest.raises(SchemaTooNewError, match="abcd"):
        await schema.upgrade_sql(empty_postgres_url)
    with pytest.raises(RowLevelSecurityUnavailableError, match="SQLite has no accounts"):
        await schema.upgrade_sql("sqlite:///nowhere.db", row_level_security=True)


def test_the_command_prints_sql_and_nothing_else(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    printed = taskctx("upgrade", "-d", url, "--sql")
    assert (printed.returncode, printed.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
    with sqlite3.connect(tmp_path / "x.db") as connection:
        connection.executescript(printed.stdout)
    connection.close()
    assert taskctx("upgrade", "-d", url).stdout == f"The schema is already at {HEAD}.\n"
    assert taskctx("upgrade", "-d", url, "--sql").stdout == f"-- The schema is already at {HEAD}.\n"
    assert taskctx("upgrade", "-d", url, "--sql", "--revision", "taskctx_0001").returncode == 2
