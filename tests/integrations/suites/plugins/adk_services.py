"""Puts our session service in the place of ADK's two that keep sessions in SQL."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.adk.sessions import database_session_service, sqlite_session_service

from taskctx_sql import ContextKey, open_store
from taskctx_sql.integrations.adk import ContextSessionService

URL = os.environ["TASKCTX_SUITE_DATABASE_URL"]
# Tests of other services, whose parameters or names say so.
OTHERS = re.compile(
    r"\[(in_memory|in_memory_light_copy|redis|per_agent_database)\]|_sync_|vertex_ai|same_ref_as_storage"
)

_opened: list[ContextSessionService] = []


class Service(ContextSessionService):
    """Our service, however it is made."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__(URL)
        _opened.append(self)


database_session_service.DatabaseSessionService = Service
sqlite_session_service.SqliteSessionService = Service


@pytest.fixture(autouse=True)
async def _empty_database() -> AsyncIterator[None]:
    async with open_store(URL) as store:
        while page := await store.contexts(None):
            for summary in page:
                await store.delete(ContextKey(summary.user_id, summary.chat_id))
    yield
    while _opened:
        await _opened.pop().close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if not OTHERS.search(item.nodeid)]
