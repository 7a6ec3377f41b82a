"""Row-level security, by hand: what an account of the application reaches with SQL of its own."""

from __future__ import annotations

import asyncio
import io
from typing import Any, Final

import asyncpg
import pytest

from taskctx_sql import ContextKey, SqlStore, open_store
from taskctx_sql.errors import StoreFailedError
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.schema import tables, views
from tests.support.accounts import by_hand, everything, filled
from tests.support.contract import loaded, stored

pytestmark = pytest.mark.wide

TABLES: Final = tuple(tables.metadata.tables)
VIEWS: Final = tuple(views.metadata.tables)
INSERTION: Final = "INSERT INTO taskctx_contexts (context_id, {0}) SELECT $1, {0} FROM taskctx_contexts".format(
    ", ".join(column.name for column in tables.contexts.c if not column.primary_key)
)


@pytest.mark.parametrize("name", [*TABLES, *VIEWS])
async def test_by_hand_only_the_rows_of_the_set_user_are_read(
    tenant_store: SqlStore, tenant_url: str, mine: ContextKey, theirs: ContextKey, name: str
) -> None:
    for key in (mine, theirs):
        # So that the view of calls has a row of both.
        await tenant_store.write(key, updates=[("tool_call", {"name": "secret"}, {"group": "1", "name": "secret"})])
    own, other = row_codec.context_id(mine), row_codec.context_id(theirs)
    column, value, others = "context_id", own, other
    if "context_id" not in (tables.metadata.tables | views.metadata.tables)[name].c:
        column, value, others = "user_id", mine.user_id, theirs.user_id
    async with by_hand(tenant_url, mine.user_id) as connection:
        assert {row[0] for row in await connection.fetch(f"SELECT {column} FROM {name}")} == {value}
        assert await connection.fetch(f"SELECT 1 FROM {name} WHERE {column} = $1", others) == []
        plan = await connection.fetch(f"EXPLAIN (ANALYZE, COSTS OFF) SELECT * FROM {name} WHERE {column} = '{others}'")
        assert "rows=0" in plan[0][0]
        found = io.BytesIO()
        await connection.copy_from_query(f"SELECT * FROM {name}", output=found)
        assert mine.user_id in (text := found.getvalue().decode()) or own in text
        assert theirs.user_id not in text
        assert other not in text
    for no_user in (None, "", f"{mine.user_id} "):
        async with by_hand(tenant_url, no_user) as connection:
            assert await connection.fetch(f"SELECT * FROM {name}") == []


async def test_no_user_is_not_the_empty_user(guarded_url: str, tenant_url: str) -> None:
    key = ContextKey("", "c1")
    async with open_store(guarded_url) as owner:
        assert isinstance(owner, SqlStore)
        await filled(owner, key)
        for no_user in (None, ""):
            async with by_hand(tenant_url, no_user) as connection:
                for name in TABLES:
                    assert await connection.fetch(f"SELECT * FROM {name}") == []
        await owner.delete(key)


@pytest.mark.parametrize("name", TABLES)
async def test_by_hand_another_users_rows_are_not_changed(
    guarded_url: str, tenant_url: str, mine: ContextKey, theirs: ContextKey, name: str
) -> None:
    before = await everything(guarded_url, theirs)
    other, own = row_codec.context_id(theirs), row_codec.context_id(mine)
    async with by_hand(tenant_url, mine.user_id) as connection:
        assert await connection.execute(f"DELETE FROM {name} WHERE context_id = $1", other) == "DELETE 0"
        assert await connection.execute(f"UPDATE {name} SET context_id = $1 WHERE context_id = $2", own, other) == (
            "UPDATE 0"
        )
        own_rows = len(before[name])
        assert await connection.execute(f"DELETE FROM {name}") == f"DELETE {own_rows}"
    assert await everything(guarded_url, theirs) == before


@pytest.mark.parametrize("name", TABLES)
async def test_by_hand_no_row_can_be_moved_to_another_user(
    tenant_url: str, mine: ContextKey, theirs: ContextKey, name: str
) -> None:
    columns = ", ".join(f'"{column.name}"' for column in tables.metadata.tables[name].c)
    owner = "user_id" if name == "taskctx_contexts" else "context_id"
    moved = columns.replace(f'"{owner}"', "$1", 1).replace('"context_id"', "'new'")
    insertion = f"INSERT INTO {name} ({columns}) SELECT {moved} FROM {name}"
    async with by_hand(tenant_url, mine.user_id) as connection:
        for whose in (theirs.user_id if owner == "user_id" else row_codec.context_id(theirs), "nobody's"):
            for statement in (f"UPDATE {name} SET {owner} = $1", insertion, f"{insertion} ON CONFLICT DO NOTHING"):
                await refused(connection, statement, whose, why="violates row-level security policy")
        await refused(connection, f"COPY {name} FROM STDIN", why="COPY FROM not supported with row-level security")


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        *((f"TRUNCATE {name}", "permission denied") for name in TABLES),
        *((f"ALTER TABLE {name} DISABLE ROW LEVEL SECURITY", "must be owner") for name in TABLES),
        *((f"DROP POLICY taskctx_tenant ON {name}", "must be owner") for name in TABLES),
        ("SET LOCAL row_security = off; SELECT * FROM taskctx_updates", "would be affected by row-level security"),
        ("SET ROLE postgres", "permission denied"),
        ("SET SESSION AUTHORIZATION postgres", "permission denied"),
        ("ALTER ROLE CURRENT_USER BYPASSRLS", "permission denied|must"),
    ],
)
async def test_by_hand_the_policies_cannot_be_taken_away(
    tenant_url: str, mine: ContextKey, statement: str, why: str
) -> None:
    async with by_hand(tenant_url, mine.user_id) as connection:
        await refused(connection, statement, why=why)


async def test_by_hand_a_function_never_meets_another_users_row(
    tenant_url: str, mine: ContextKey, theirs: ContextKey
) -> None:
    async with by_hand(tenant_url, mine.user_id) as connection:
        seen: list[str] = []
        connection.add_log_listener(lambda _, message: seen.append(message.message))
        await connection.execute(
            "CREATE FUNCTION pg_temp.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS "
            "$$BEGIN RAISE NOTICE '%', $1; RETURN true; END$$"
        )
        for name in TABLES:
            await connection.execute(f"SELECT * FROM {name} WHERE pg_temp.leak(context_id)")
        await asyncio.sleep(0)
        assert set(seen) == {row_codec.context_id(mine)}


async def test_only_that_an_id_is_taken_can_be_found_out(tenant_url: str, mine: ContextKey, theirs: ContextKey) -> None:
    async with by_hand(tenant_url, mine.user_id) as connection:
        await refused(connection, INSERTION, row_codec.context_id(theirs), why="duplicate key value")
        taken = f"{INSERTION} ON CONFLICT (context_id) DO UPDATE SET metadata = 'mine' RETURNING metadata"
        await refused(connection, taken, row_codec.context_id(theirs), why="violates row-level security policy")


async def test_a_user_whose_context_id_was_taken_by_hand_gets_an_error_and_loses_nothing(
    tenant_store: SqlStore, guarded_url: str, tenant_url: str, mine: ContextKey, user: str
) -> None:
    victim = ContextKey(f"victim-{user}", "c1")
    connection = await asyncpg.connect(tenant_url)
    async with connection.transaction():
        await connection.execute("SELECT set_config('taskctx.user_id', $1, true)", mine.user_id)
        await connection.execute(INSERTION, row_codec.context_id(victim))
    await connection.close()
    context = await loaded(tenant_store, victim.user_id)
    context.add_context_update("message", "precious")
    with pytest.raises(StoreFailedError, match=r"row-level security.*look for the row as the owner"):
        await context.save()
    owner = await asyncpg.connect(guarded_url)
    await owner.execute("DELETE FROM taskctx_contexts WHERE context_id = $1", row_codec.context_id(victim))
    await owner.close()
    await context.save()
    assert await stored(tenant_store, victim) == ["precious"]


async def refused(connection: asyncpg.Connection, statement: str, *values: Any, why: str) -> None:
    """Check that Postgres refuses a statement."""
    with pytest.raises(asyncpg.PostgresError, match=why):
        async with connection.transaction():
            await connection.execute(statement, *values)
