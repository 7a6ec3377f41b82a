from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from a2a.server.context import ServerCallContext

from taskctx_sql import Store, open_store
from tests.integrations.a2a.tasks import called_by


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url) as opened:
        yield opened


@pytest.fixture
def caller(user: str) -> ServerCallContext:
    return called_by(user)
