"""The search index as a part of the schema: created, printed, kept by upgrades, dropped, and who may do what."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from taskctx_sql import ContextKey, SqlStore, open_store, schema
from taskctx_sql.errors import SearchIndexUnavailableError
from taskctx_sql.sql import engines, row_codec
from taskctx_sql.sql.schema import search_index
from taskctx_sql.sql.search import search
from taskctx_sql.sql.store import as_database
from tests.support.psql import psql
from tests.support.waiting import until

KEY = ContextKey("u1", "c1")


async def save(url: str, text: str, schema_name: str | None = None) -> None:
    async with open_store(url, schema=schema_name) as store:
        await store.write(KEY, updates=[("message", text)])


async def leftovers(url: str, schema_name: str = "public") -> list[str]:
    """Everything of the index that a Postgres has."""
    engine = engines.create_engine(engines.parse_url(url))
    statement = (
        "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = :name"
        " AND relname LIKE 'taskctx_search%' UNION ALL SELECT proname FROM pg_proc WHERE proname LIKE 'taskctx_search%'"
    )
    async with engine.connect() as connection:
        found = [str(row[0]) for row in await connection.execute(sa.text(statement), {"name": schema_name})]
    await engine.dispose()
    return found


async def test_an_index_in_a_schema_is_printed_kept_and_dropped(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MOST_UPDATES", -1)
    name = 'odd "name"'
    await psql(empty_postgres_url, await schema.upgrade_sql(empty_postgres_url, schema=name, search=True))
    await save(empty_postgres_url, "first", name)
    # Perhaps the store has indexed it already.
    assert await schema.search_backlog(empty_postgres_url, schema=name) in (0, 1)
    assert await schema.upgrade_sql(empty_postgres_url, schema=name) == ""
    await schema.upgrade(empty_postgres_url, schema=name, search=True)
    async with open_store(empty_postgres_url, schema=name) as store:
        await store.write(KEY, updates=[("message", "second first")])
        assert [hit.seq for hit in await store.search("first", limit=5)] == [2, 1]
    await psql(empty_postgres_url, 'DROP TRIGGER taskctx_search_queue ON "odd ""name""".taskctx_updates')
    await schema.upgrade(empty_postgres_url, schema=name)
    await save(empty_postgres_url, "third", name)
    async with open_store(empty_postgres_url, schema=name) as store:
        assert len(await store.search("third")) == 1
    await psql(empty_postgres_url, await schema.upgrade_sql(empty_postgres_url, schema=name, search=False))
    assert await leftovers(empty_postgres_url, name) == []
    await schema.upgrade(empty_postgres_url, schema=name, search=True)
    await schema.downgrade(empty_postgres_url, "base", schema=name)
    assert await leftovers(empty_postgres_url, name) == []


async def test_an_index_is_of_no_use_to_an_account_that_sees_one_user(
    guarded_url: str, tenant_url: str, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MOST_UPDATES", -1)
    await schema.upgrade(guarded_url, search=True)
    try:
        async with open_store(tenant_url) as tenant:
            await tenant.write(ContextKey(user, "c1"), updates=[("message", "a secret")])
            assert len(await tenant.search("secret", user_id=user)) == 1
            assert await tenant.search_backlog() is None

            async def is_indexed() -> bool:
                return not await schema.search_backlog(guarded_url)

            # Whoever saves has it indexed.
            await until(is_indexed)
            assert len(await tenant.search("secret", user_id=user)) == 1
            await tenant.delete(ContextKey(user, "c1"))
        async with open_store(guarded_url) as store:
            assert await store.search("secret", user_id=user) == []
            rows = sa.select(search_index.rows.c.context_id)
            rows = rows.where(search_index.rows.c.context_id == row_codec.context_id(ContextKey(user, "c1")))
            assert await as_database(store).query(rows) == []
    finally:
        await schema.upgrade(guarded_url, search=False)


async def test_a_file_that_can_only_be_read_is_searched_with_its_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MOST_UPDATES", -1)
    path = tmp_path / "tasks.db"
    await schema.upgrade(f"sqlite:///{path}", search=True)
    await save(f"sqlite:///{path}", "indexed")
    await schema.upgrade(f"sqlite:///{path}", search=True)
    await save(f"sqlite:///{path}", "not indexed")
    async with open_store(f"sqlite:///file:{path}?mode=ro&uri=true") as store:
        assert [hit.seq for hit in await store.search("indexed")] == [2, 1]
    await schema.downgrade(f"sqlite:///{path}", "base")
    engine = engines.create_engine(engines.parse_url(f"sqlite:///{path}"))
    async with engine.connect() as connection:
        assert (await connection.execute(sa.text("SELECT name FROM sqlite_master"))).all() == []
    await engine.dispose()


async def test_an_old_sqlite_has_no_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_index, "_OLDEST_SQLITE", (99, 0, 0))
    with pytest.raises(SearchIndexUnavailableError, match=r"SQLite 3\..* with FTS5.*3.34 or later"):
        await schema.upgrade(f"sqlite:///{tmp_path}/tasks.db", search=True)
    store = await SqlStore.open(f"sqlite:///{tmp_path}/tasks.db")
    assert await store.search_backlog() is None
    await store.close()
