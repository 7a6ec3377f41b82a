"""Examining a search index: what it lacks is found, and the remedy mends it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql import ContextKey, SqlStore, schema
from taskctx_sql.maintenance import examine
from taskctx_sql.sql.backends import catch_up
from taskctx_sql.sql.maintenance import search_checks
from tests.conftest import new_database
from tests.sql.search.oracle import TEXTS

KEY = ContextKey("searcher", "c1")


@pytest.fixture(scope="module")
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A database of these tests: an index has the updates of all tests of its database."""
    with new_database(postgres_server) as url:
        yield url


@pytest.fixture
async def database(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[AsyncEngine, SqlStore]]:
    """A database whose updates are all indexed, and a store that does not look for an index."""
    monkeypatch.setattr(catch_up, "LOOK_SECONDS", math.inf)
    sql_store = await SqlStore.open(engine)
    await sql_store.write(KEY, updates=[("message", text) for text in (*TEXTS, "long " * 300_000)])
    await schema.upgrade(engine, search=True)
    yield engine, sql_store
    await schema.upgrade(engine, search=False)
    await sql_store.delete(KEY)
    await sql_store.close()


async def execute(engine: AsyncEngine, statement: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(sa.text(statement))


async def findings(engine: AsyncEngine) -> list[tuple[str, str]]:
    """What is said about the index: levels and messages."""
    examined = await examine(engine)
    found = [finding for finding in examined.findings if finding.check == "search"]
    assert all("taskctx upgrade --search" in finding.remedy for finding in found if finding.level != "ok")
    return [(finding.level, finding.message) for finding in found]


async def test_an_index_is_compared_with_the_rows(database: tuple[AsyncEngine, SqlStore]) -> None:
    indexed, _ = database
    good = [("ok", "the search index has all updates")]
    assert await findings(indexed) == good
    on_sqlite = indexed.dialect.name == "sqlite"
    # An update that is not in it, and one that is there no more.
    await execute(indexed, "DELETE FROM taskctx_search_rows WHERE seq = 1")
    await execute(
        indexed,
        "INSERT INTO taskctx_search_rows (context_id, seq, body) VALUES ('gone', 1, '')".replace(
            "seq, body) VALUES ('gone', 1, ''",
            "seq) VALUES ('gone', 1" if on_sqlite else "seq, body) VALUES ('gone', 1, ''",
        ),
    )
    assert [message for _, message in await findings(indexed)] == [
        "the search index is wrong: 1 updates that are not in it",
        "the search index is wrong: 1 updates in it that are not there",
    ]
    await schema.upgrade(indexed, search=False)
    await schema.upgrade(indexed, search=True)
    assert await findings(indexed) == good
    # Two texts are exchanged.
    exchange = "UPDATE taskctx_search_rows SET body = 'other' WHERE seq = 2"
    if on_sqlite:
        exchange = "UPDATE taskctx_search_rows SET id = -id WHERE seq = 2"
    await execute(indexed, exchange)
    ((level, message),) = await findings(indexed)
    assert (level, message) == (
        "error",
        "the search index is wrong: 1 updates of the newest 200 whose text it does not have",
    )


async def test_an_index_without_a_part_or_far_behind_is_found_and_mended(
    database: tuple[AsyncEngine, SqlStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    indexed, sql_store = database
    of_table = "" if indexed.dialect.name == "sqlite" else " ON taskctx_updates"
    await execute(indexed, f"DROP TRIGGER taskctx_search_delete{of_table}")
    await sql_store.delete(KEY)
    await sql_store.write(KEY, updates=[("message", "another text")])
    ((level, message),) = await findings(indexed)
    assert level == "error"
    assert "has no taskctx_search_delete" in message
    await schema.upgrade(indexed, search=True)
    assert (await findings(indexed))[0][0] == "ok"
    assert [hit.seq for hit in await sql_store.search("another text", user_id=KEY.user_id)] == [1]
    await execute(indexed, "DROP INDEX taskctx_search_rows_time_idx" if of_table else "DROP TABLE taskctx_search_rows")
    assert "has no taskctx_search_rows" in (await findings(indexed))[0][1]
    await schema.upgrade(indexed)
    monkeypatch.setattr(search_checks, "FAR_BEHIND", 0)
    assert await findings(indexed) == [("warning", "the search index is behind by 1 update, which each search reads")]
    await schema.upgrade(indexed, search=True)
    assert (await findings(indexed))[0][0] == "ok"
