"""Engines of the caller's: whatever they are set to, a save is a transaction, and stores on one take turns."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool, StaticPool

from taskctx_sql import ContextKey, open_store, schema
from taskctx_sql.errors import InvalidDatabaseUrlError, StoreFailedError
from taskctx_sql.sql import engines
from taskctx_sql.sql.delete import delete
from taskctx_sql.sql.plan import Plan
from tests.support.contract import loaded, new_delta, stored

WRITERS, SAVES = 5, 6


async def _save_often(engine: AsyncEngine, user: str, number: int) -> None:
    async with open_store(engine) as store:
        for step in range(SAVES):
            context = await loaded(store, user, f"c{number}")
            context.add_context_update("message", step)
            await context.save()


async def _expect_all(engine: AsyncEngine, user: str) -> None:
    async with open_store(engine) as store:
        for number in range(WRITERS):
            assert await stored(store, ContextKey(user, f"c{number}")) == list(range(SAVES))


@pytest.mark.parametrize("where", ["memory", "file", "derived engines"])
async def test_stores_on_one_connection_take_turns(where: str, tmp_path: Path, user: str) -> None:
    name = "" if where == "memory" else f"/{tmp_path}/one.db"
    engine = create_async_engine(f"sqlite+aiosqlite://{name}", poolclass=StaticPool)
    engines = [engine] * WRITERS
    if where == "derived engines":
        engines = [engine.execution_options(of_request=number) for number in range(WRITERS)]
    # Each of them finds nothing, and sets the database up.
    await asyncio.gather(*(_save_often(one, user, number) for number, one in enumerate(engines)))
    await _expect_all(engine, user)
    await engine.dispose()


async def test_a_schema_is_read_and_changed_in_turn_with_saves(user: str) -> None:
    engine = create_async_engine("sqlite+aiosqlite://", poolclass=StaticPool)
    await schema.upgrade(engine)
    writers = (_save_often(engine, user, number) for number in range(WRITERS))
    await asyncio.gather(
        *writers, *(schema.upgrade(engine) for _ in range(3)), *(schema.current(engine) for _ in range(3))
    )
    await _expect_all(engine, user)
    await engine.dispose()


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "SERIALIZABLE", "REPEATABLE READ"])
async def test_a_save_is_a_transaction_on_an_engine_of_any_isolation(level: str, postgres_url: str, user: str) -> None:
    engine = create_async_engine(engines.parse_url(postgres_url), isolation_level=level)
    async with open_store(engine) as store:
        contexts = [await loaded(store, user, "c") for _ in range(4)]
        for step in range(SAVES):
            for number, context in enumerate(contexts):
                context.add_context_update("message", [step, number])
            await asyncio.gather(*(context.save() for context in contexts))
        seqs = [row.seq async for row in store.updates(contexts[0].key)]
        assert seqs == list(range(1, 4 * SAVES + 1))
        assert len(await store.revisions(contexts[0].key)) == 4 * SAVES
    async with engine.connect() as connection:
        # Postgres does not know of autocommit: the driver begins no transaction.
        assert (await connection.get_isolation_level()) == level.replace("AUTOCOMMIT", "READ COMMITTED")
    await engine.dispose()


async def test_a_failed_write_is_rolled_back_on_an_engine_in_autocommit(engine: AsyncEngine, user: str) -> None:
    committing = engine.execution_options(isolation_level="AUTOCOMMIT")
    async with open_store(committing) as store:
        await store.save(new_delta(ContextKey(user, "c"), "kept"))

        def plan() -> Plan[None]:
            yield from delete(ContextKey(user, "c"))
            raise ZeroDivisionError("half way")

        with pytest.raises(StoreFailedError):
            await store.write_plan("break", plan)  # type: ignore[attr-defined]  # it is a SqlStore
        assert await stored(store, ContextKey(user, "c")) == ["kept"]


async def test_an_upgrade_is_a_transaction_on_an_engine_in_autocommit(empty_postgres_url: str) -> None:
    engine = create_async_engine(engines.parse_url(empty_postgres_url), isolation_level="AUTOCOMMIT")
    await asyncio.gather(*(schema.upgrade(engine) for _ in range(4)))
    async with engine.connect() as connection:
        await connection.execute(sa.text("DROP TABLE taskctx_alembic_version"))
    await engine.dispose()


async def test_a_database_in_memory_for_each_connection_is_refused() -> None:
    engine = create_async_engine("sqlite+aiosqlite://", poolclass=NullPool)
    with pytest.raises(InvalidDatabaseUrlError, match="StaticPool"):
        await open_store(engine)
    await engine.dispose()
