from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from taskctx_sql import SqlStore, open_store
from taskctx_sql.integrations.langgraph import ContextSaver


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[SqlStore]:
    """A store on each engine in turn."""
    async with open_store(database_url) as opened:
        assert isinstance(opened, SqlStore)
        yield opened


@pytest.fixture
async def saver(store: SqlStore, user: str) -> ContextSaver:
    return ContextSaver(store, user_id=user)
