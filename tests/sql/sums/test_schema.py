"""Daily sums as a part of the schema: created, printed, kept by upgrades, dropped, and who sees what."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from taskctx_sql import ContextKey, open_store, schema
from taskctx_sql.errors import DailySumsUnavailableError
from taskctx_sql.sql.engines import create_engine, parse_url
from taskctx_sql.sql.schema import citus
from taskctx_sql.sql.schema.sum_tables import days, parts, queue
from taskctx_sql.sql.store import as_database
from tests.support import accounts
from tests.support.psql import psql

USE = {"model_id": "m", "provider_id": "p", "mode": "c", "cost": 1.5, "timestamp": 1_767_225_600.0}


async def leftovers(url: str, schema_name: str) -> list[str]:
    """Everything of the sums that a Postgres has."""
    engine = create_engine(parse_url(url))
    statement = (
        "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = :name"
        " AND relname LIKE 'taskctx_sums%' UNION ALL SELECT proname FROM pg_proc WHERE proname LIKE 'taskctx_sums%'"
    )
    async with engine.connect() as connection:
        found = [str(row[0]) for row in await connection.execute(sa.text(statement), {"name": schema_name})]
    await engine.dispose()
    return found


async def costs(url: str, schema_name: str | None = None) -> list[tuple[str, int]]:
    async with open_store(url, schema=schema_name) as store:
        return [(row.name, row.calls) for row in await store.reports.costs("user")]


async def test_sums_in_a_schema_are_printed_kept_mended_and_dropped(empty_postgres_url: str) -> None:
    url, name = empty_postgres_url, 'odd "name"'
    await psql(url, await schema.upgrade_sql(url, schema=name, sums=True))
    async with open_store(url, schema=name) as store:
        await store.write(ContextKey("u1", "c1"), models=[USE])
    assert await costs(url, name) == [("u1", 1)]
    assert await schema.upgrade_sql(url, schema=name) == ""
    await schema.upgrade(url, schema=name, sums=True)
    # What happened while nobody noted it is summed as well.
    await psql(url, 'DROP TRIGGER taskctx_sums_models_added ON "odd ""name""".taskctx_models')
    async with open_store(url, schema=name) as store:
        await store.write(ContextKey("u1", "c1"), models=[USE])
    await schema.upgrade(url, schema=name)
    assert await costs(url, name) == [("u1", 2)]
    await psql(url, await schema.upgrade_sql(url, schema=name, sums=False))
    assert await leftovers(url, name) == []
    assert await costs(url, name) == [("u1", 2)]
    await schema.upgrade(url, schema=name, sums=True)
    await schema.downgrade(url, "base", schema=name)
    assert await leftovers(url, name) == []


async def test_an_account_that_sees_one_user_sees_the_sums_of_this_one(
    guarded_url: str, tenant_url: str, user: str
) -> None:
    mine, theirs = f"mine-{user}", f"theirs-{user}"
    await schema.upgrade(guarded_url, sums=True)
    try:
        account, tables = sa.make_url(tenant_url).username, f"{days.name}, {parts.name}, {queue.name}"
        await accounts.run(guarded_url, [f"GRANT SELECT ON {tables} TO {account}"])
        async with open_store(tenant_url) as tenant:
            for name in (mine, theirs):
                await tenant.write(ContextKey(name, "c1"), models=[USE])
            await schema.upgrade(guarded_url, sums=True)
            await tenant.write(ContextKey(theirs, "c2"), models=[USE, USE])
            assert [row.calls for row in await tenant.reports.costs("day", user_id=mine)] == [1]
            assert [row.calls for row in await tenant.reports.costs("day", user_id=theirs)] == [3]
            for table in (days, parts):
                rows = await as_database(tenant).query(sa.select(table.c.user_id), user_id=mine)
                assert set(rows) == {(mine,)}
            assert await as_database(tenant).query(sa.select(queue), user_id=mine) == []
    finally:
        await schema.upgrade(guarded_url, sums=False)


async def test_citus_has_no_sums(empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(citus, "is_installed", bool)
    with pytest.raises(DailySumsUnavailableError, match="Citus"):
        await schema.upgrade(empty_postgres_url, sums=True)
