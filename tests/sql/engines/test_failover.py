"""After a failover, connections that lead to a server that only reads now are given up, on every way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from taskctx_sql import ContextKey, SqlStore, schema
from taskctx_sql.sql import engines
from taskctx_sql.sql.plan import Plan
from tests.conftest import wide
from tests.support.connections import with_driver
from tests.support.contract import loaded, new_delta, stored

Command = Callable[..., Awaitable[None]]
WAYS = ("address", "schema", "transaction pooling", "engine of the caller's", "psycopg")


@pytest.fixture
async def command(empty_postgres_url: str) -> Command:
    async def run(*statements: str) -> None:
        engine = create_async_engine(engines.parse_url(empty_postgres_url), isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            for statement in statements:
                await connection.exec_driver_sql(statement)
        await engine.dispose()

    return run


async def _open(way: str, url: str) -> SqlStore:
    name = "ours" if way == "schema" else None
    await schema.upgrade(url, schema=name)
    url = with_driver("postgresql+psycopg", url) if way == "psycopg" else url
    database = create_async_engine(engines.parse_url(url)) if way == "engine of the caller's" else url
    return await SqlStore.open(
        database, schema=name, transaction_pooling=way == "transaction pooling", retry_seconds=10
    )


async def _close(store: SqlStore) -> None:
    await store.close()
    await store._backend.engine.dispose()


async def _make_read_only(store: SqlStore, user: str, command: Command, url: str) -> None:
    """Leave the store with several connections to a server that only reads, while a new one may write."""
    name = sa.make_url(url).database
    await command(
        f"ALTER DATABASE {name} SET default_transaction_read_only = on",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    # Each takes a connection, and all of them are made now.
    await asyncio.gather(*(store.load(ContextKey(user, f"c{number}")) for number in range(4)))
    await asyncio.gather(*(store.query(sa.select(sa.func.pg_sleep(0.05))) for _ in range(4)))
    await command(
        "SET default_transaction_read_only = off", f"ALTER DATABASE {name} RESET default_transaction_read_only"
    )


@pytest.mark.parametrize("way", [WAYS[0], *wide(*WAYS[1:])])
async def test_a_save_after_a_failover_succeeds_on_a_new_connection(
    way: str, empty_postgres_url: str, user: str, command: Command
) -> None:
    store = await _open(way, empty_postgres_url)
    context = await loaded(store, user)
    context.add_context_update("message", 1)
    await context.save()
    await _make_read_only(store, user, command, empty_postgres_url)
    context.add_context_update("message", 2)
    await context.save()
    assert await stored(store, context.key) == [1, 2]
    await _close(store)


@pytest.mark.parametrize("way", [WAYS[0], *wide(*WAYS[1:])])
async def test_no_connection_to_the_old_primary_is_used_again(
    way: str, empty_postgres_url: str, user: str, command: Command
) -> None:
    store = await _open(way, empty_postgres_url)
    await _make_read_only(store, user, command, empty_postgres_url)
    await store.save(new_delta(ContextKey(user, "c"), "x"))
    said = await asyncio.gather(
        *(store.query(sa.select(sa.func.current_setting("transaction_read_only"))) for _ in range(8))
    )
    assert {text for ((text,),) in said} == {"off"}
    await _close(store)


@pytest.mark.parametrize("way", [WAYS[0], *wide(*WAYS[1:])])
async def test_a_delete_and_a_save_if_unchanged_succeed_too(
    way: str, empty_postgres_url: str, user: str, command: Command
) -> None:
    store = await _open(way, empty_postgres_url)
    context = await loaded(store, user)
    context.add_context_update("message", 1)
    await context.save()
    await _make_read_only(store, user, command, empty_postgres_url)
    context.metadata["changed"] = True
    await context.save(if_unchanged=True)
    await _make_read_only(store, user, command, empty_postgres_url)
    assert await store.delete(context.key)
    await _close(store)


@pytest.mark.parametrize("way", [WAYS[0], *wide(*WAYS[1:])])
async def test_a_driver_that_lost_track_of_the_protocol_gets_a_new_connection(
    way: str, empty_postgres_url: str
) -> None:
    store = await _open(way, empty_postgres_url)
    attempts = 0

    def plan() -> Plan[int]:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise asyncpg.InternalClientError("got result for unknown protocol state 3")
        yield from ()
        return attempts

    assert await store.write_plan("try", plan) == 2
    await _close(store)
