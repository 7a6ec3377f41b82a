"""A search index for a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql import SqlStore, schema
from taskctx_sql.sql.search import search
from tests.conftest import new_database


@pytest.fixture(scope="session")
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A database of these tests: an index has the updates of all tests of its database."""
    with new_database(postgres_server) as url:
        yield url


@pytest.fixture
async def index(engine: AsyncEngine, sql_store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """A search index, which is used however little there is to search."""
    monkeypatch.setattr(search, "MOST_UPDATES", -1)
    await schema.upgrade(engine, search=True)
    yield
    await schema.upgrade(engine, search=False)
