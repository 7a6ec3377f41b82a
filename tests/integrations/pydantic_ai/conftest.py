from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from taskctx_sql import SqlStore, open_store


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[SqlStore]:
    """A store on each engine in turn."""
    async with open_store(database_url) as store:
        assert isinstance(store, SqlStore)
        yield store
