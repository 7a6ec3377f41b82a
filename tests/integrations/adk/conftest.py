from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import pytest

from taskctx_sql import Store, open_store
from taskctx_sql.integrations.adk import ContextSessionService

_APPS = itertools.count()


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[Store]:
    """A store on each engine in turn."""
    async with open_store(database_url) as store:
        yield store


@pytest.fixture
def service(sql: Store) -> ContextSessionService:
    return ContextSessionService(sql)


@pytest.fixture
def app(user: str) -> str:
    """An app that no other test has: all tests share one Postgres."""
    return f"app_{user}".replace("-", "_")
