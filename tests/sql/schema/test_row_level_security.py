"""Switching row-level security on and off: with data in place, with other revisions, and where it cannot be had."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from taskctx_sql import ContextKey, SqlStore, TaskContext, open_store, schema
from taskctx_sql.cli import main
from taskctx_sql.errors import RowLevelSecurityUnavailableError, StoreFailedError
from taskctx_sql.maintenance import examine
from taskctx_sql.model import Finding
from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import on_connection, row_security, tables, views
from tests.support import accounts
from tests.support.contract import loaded, new_delta, stored

pytestmark = pytest.mark.wide

PAGE = Path(__file__).parents[3] / "docs/pages/guides/tenants.md"
NAMES = {*tables.metadata.tables, *views.metadata.tables}
CONTEXTS = [ContextKey("u1", "c1"), ContextKey("u2", "c1")]


@pytest.fixture
async def url(empty_postgres_url: str) -> str:
    """A database with contexts of two users, as its owner sees it."""
    await schema.upgrade(empty_postgres_url)
    async with open_store(empty_postgres_url) as store:
        for key in CONTEXTS:
            await store.save(new_delta(key, key.user_id))
    return empty_postgres_url


@pytest.fixture
async def application(url: str) -> AsyncIterator[str]:
    """The same, as the application's account sees it."""
    async with accounts.application(url) as found:
        yield found


async def run(url: str, *statements: str) -> list[Any]:
    connection = await asyncpg.connect(url)
    found: list[Any] = []
    for statement in statements:
        found = [tuple(row) for row in await connection.fetch(statement)]
    await connection.close()
    return found


async def unguarded(url: str) -> set[str]:
    return set(await on_connection(url, "look", lambda connection: row_security.unguarded(connection, None)))


async def seen(url: str) -> set[str]:
    """The users that a store of an account sees, if it can see all."""
    async with open_store(url) as store:
        assert isinstance(store, SqlStore)
        return {row.user_id for row in await store.reports.contexts()}


async def test_it_is_switched_on_and_off_with_data_in_place(url: str, application: str) -> None:
    files = "SELECT relname, relfilenode FROM pg_class WHERE relname LIKE 'taskctx%' ORDER BY 1"
    before = await run(url, files)
    assert not await schema.row_level_security(url)
    assert await unguarded(url) == NAMES
    for _ in range(2):
        await schema.upgrade(url, row_level_security=True)
        assert await schema.row_level_security(url)
        assert await unguarded(url) == set()
    # What is not said stays as it is.
    await schema.upgrade(url)
    assert await schema.row_level_security(url)
    assert await run(application, "SELECT * FROM taskctx_contexts") == []
    async with open_store(application) as store:
        assert [await stored(store, key) for key in CONTEXTS] == [["u1"], ["u2"]]
    # The owner sees all of it.
    assert await seen(url) == {"u1", "u2"}
    for _ in range(2):
        await schema.upgrade(url, row_level_security=False)
        assert not await schema.row_level_security(url)
    assert await unguarded(url) == NAMES
    assert await run(url, "SELECT * FROM pg_policy") == []
    assert await seen(application) == {"u1", "u2"}
    # No table was rewritten.
    assert await run(url, files) == before


async def test_tables_of_later_migrations_are_guarded_too(empty_postgres_url: str) -> None:
    await schema.upgrade(empty_postgres_url, "taskctx_0001", row_level_security=True)
    assert await schema.row_level_security(empty_postgres_url)
    assert await unguarded(empty_postgres_url) == set()
    await schema.upgrade(empty_postgres_url)
    assert await unguarded(empty_postgres_url) == set()
    guarded = "SELECT polrelid::regclass::text FROM pg_policy"
    assert {name for (name,) in await run(empty_postgres_url, guarded)} == set(tables.metadata.tables)


async def test_a_downgrade_works_with_it(url: str) -> None:
    await schema.upgrade(url, row_level_security=True)
    await schema.downgrade(url, "taskctx_0001")
    assert await schema.row_level_security(url)
    assert await unguarded(url) == set()
    await schema.downgrade(url, "base")
    assert not await schema.row_level_security(url)
    assert await run(url, "SELECT relname FROM pg_class WHERE relname LIKE 'taskctx%'") == []
    # What is made anew is as if it had never been on.
    await schema.upgrade(url)
    assert not await schema.row_level_security(url)


async def test_a_role_that_bypasses_it_sees_all(url: str, application: str) -> None:
    await schema.upgrade(url, row_level_security=True)
    await run(url, f"ALTER ROLE {sa.make_url(application).username} BYPASSRLS")
    assert await seen(application) == {"u1", "u2"}


async def test_what_the_page_does_by_hand_shows_one_user(url: str, application: str) -> None:
    await schema.upgrade(url, row_level_security=True)
    # The accounts that the page creates, with their grants, are tested in tests/sql/schema/test_grants.py.
    _, by_hand = re.findall(r"```pgsql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    connection = await asyncpg.connect(application)
    found = [await connection.fetch(statement) for statement in _statements(by_hand)]
    await connection.close()
    assert [[tuple(row) for row in rows] for rows in found[2:]] == [[("c1", 1)], [], [(0,)]]


def _statements(block: str) -> list[str]:
    lines = [line.split("--")[0] for line in block.splitlines()]
    return [statement for statement in " ".join(lines).split(";") if statement.strip()]


async def test_a_store_that_was_open_before_loses_nothing(url: str, application: str) -> None:
    async with open_store(application) as store:
        context = await loaded(store, "u1")
        await schema.upgrade(url, row_level_security=True)
        context.add_context_update("message", "precious")
        with pytest.raises(StoreFailedError, match="open the store again"):
            await context.save()
    async with open_store(application) as store:
        context._storage.store = store
        await context.save()
        assert await stored(store, CONTEXTS[0]) == ["u1", "precious"]
        await schema.upgrade(url, row_level_security=False)
        context.add_context_update("message", "and more")
        await context.save()
        assert await stored(store, CONTEXTS[0]) == ["u1", "precious", "and more"]


# Where it cannot be had.


async def test_sqlite_is_refused_with_the_remedy(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    with pytest.raises(RowLevelSecurityUnavailableError, match=r"SQLite has no accounts: .* use Postgres"):
        await schema.upgrade(url, row_level_security=True)
    assert await schema.current(url) is None
    await schema.upgrade(url, row_level_security=False)
    assert not await schema.row_level_security(url)


async def test_a_server_that_is_too_old_is_refused(url: str) -> None:
    engine = engines.create_engine(engines.parse_url(url))
    async with engine.connect() as connection:
        connection.dialect.server_version_info = (14, 9)
        with pytest.raises(RowLevelSecurityUnavailableError, match=r"PostgreSQL 14.*use PostgreSQL 15 or later"):
            await schema.upgrade(connection, row_level_security=True)
    await engine.dispose()
    assert await unguarded(url) == NAMES


async def test_citus_is_refused(url: str) -> None:
    extension = (
        "(oid, extname, extowner, extnamespace, extrelocatable, extversion) VALUES (1, 'citus', 10, 11, false, 1)"
    )
    await run(url, "SET allow_system_table_mods = on", f"INSERT INTO pg_extension {extension}")
    with pytest.raises(RowLevelSecurityUnavailableError, match="Citus"):
        await schema.upgrade(url, row_level_security=True)
    assert await unguarded(url) == NAMES


# On the shell.


def taskctx(*words: str) -> str:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_switches_it_and_prints_it(empty_postgres_url: str) -> None:
    url = empty_postgres_url
    assert "Row-level security is on.\n" in taskctx("upgrade", "-d", url, "--row-level-security")
    assert "Row-level security is on.\n" in taskctx("upgrade", "-d", url)
    assert "row-level security is on" in taskctx("current", "-d", url)
    assert json.loads(taskctx("current", "-d", url, "--json"))["row_level_security"] is True
    assert "Row-level security is off.\n" in taskctx("upgrade", "-d", url, "--no-row-level-security")
    assert "ow-level" not in taskctx("upgrade", "-d", url) + taskctx("current", "-d", url)
    assert json.loads(taskctx("upgrade", "-d", url, "--json"))["row_level_security"] is False


async def test_the_doctor_reports_it(url: str, application: str) -> None:
    async def findings_of(address: str) -> list[Finding]:
        return [found for found in (await examine(address)).findings if found.check == "row-level-security"]

    assert await findings_of(url) == []
    await schema.upgrade(url, row_level_security=True)
    assert [found.level for found in await findings_of(url)] == ["ok"]
    ((other),) = await findings_of(application)
    assert (other.level, other.remedy) == (
        "error",
        "connect as the owner of the tables",
    )
    await run(url, "ALTER TABLE taskctx_files DISABLE ROW LEVEL SECURITY")
    await run(url, "ALTER VIEW taskctx_report_users RESET (security_invoker)")
    (found,) = await findings_of(url)
    assert found.level == "warning"
    assert "not for taskctx_files, taskctx_report_users" in found.message
    await schema.upgrade(url)
    assert [found.level for found in await findings_of(url)] == ["ok"]


async def test_the_activity_of_the_server_does_not_show_the_user(
    tenant_url: str, tenant_store: SqlStore, user: str
) -> None:
    engine = engines.create_engine(engines.parse_url(tenant_url))
    mine = ContextKey(f"someone-{user}", "c")
    saving = TaskContext({"user_id": mine.user_id, "chat_id": mine.chat_id}, store=tenant_store)
    seen: list[str] = []
    async with engine.connect() as spy:
        for number in range(10):
            saving.add_context_update("message", number)
            task = asyncio.ensure_future(saving.save())
            while not task.done():
                await spy.rollback()
                activity = "SELECT query FROM pg_stat_activity WHERE datname = current_database()"
                seen += (await spy.exec_driver_sql(activity)).scalars().all()
            await task
            await saving.load()
    await engine.dispose()
    assert any("taskctx" in query for query in seen)
    secret = (mine.user_id, mine.user_id.encode().hex())
    assert not [query for query in seen if any(part in query for part in secret)]
