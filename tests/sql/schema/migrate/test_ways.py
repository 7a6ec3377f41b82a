"""The ways to upgrade: alembic's own command, a caller's engine, connection or transaction, a schema of choice."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from taskctx_sql import ContextKey, SqlStore, TaskContext, open_store, schema
from taskctx_sql.errors import SchemaMissingError
from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import HEAD
from tests.sql.schema.migrate.databases import OURS, look, table_names
from tests.support.contract import new_delta, stored

CHECKOUT = Path(__file__).parents[4]


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


async def test_a_callers_transaction_keeps_its_lock_timeout(empty_postgres_url: str) -> None:
    engine = create_async_engine(engines.parse_url(empty_postgres_url))
    async with engine.begin() as connection:
        await connection.exec_driver_sql("SET LOCAL lock_timeout = '7s'")
        await schema.upgrade(connection)
        assert (await connection.exec_driver_sql("SHOW lock_timeout")).scalar() == "7s"
    await engine.dispose()
