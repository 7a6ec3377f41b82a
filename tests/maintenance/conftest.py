"""A database to keep in order."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from taskctx_sql import SqlStore, open_store


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[SqlStore]:
    """An open database of each kind in turn."""
    async with open_store(database_url) as store:
        assert isinstance(store, SqlStore)
        yield store
