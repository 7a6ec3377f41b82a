"""What an application does before its first request, so that this one is answered as fast as the next."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.engine.interfaces import CacheStats

from taskctx_sql import SqlStore, open_store
from taskctx_sql.pages.links import LISTS
from taskctx_sql.pages.render import environment
from taskctx_sql.ui.server import application
from taskctx_sql.ui.warming import settle, warm
from tests.benchmarks import large
from tests.ui.conftest import PATIENCE, TASKS
from tests.ui.page import Page


async def test_the_first_answers_compile_nothing(filled: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    environment.cache_clear()
    app = application(filled, token=None, patience=PATIENCE)
    await warm(app)
    compiled: list[str] = []
    engine, _ = filled.engine_and_schema()

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        # Sums are counted only if there are more than a page of them.
        if context.cache_hit is CacheStats.CACHE_MISS and "SELECT count(*) AS count_1" not in statement:
            compiled.append(statement)

    def load(*_: Any) -> Any:
        raise AssertionError("a template was compiled")

    monkeypatch.setattr(environment().loader, "load", load)
    sa.event.listen(engine.sync_engine, "before_cursor_execute", note)
    try:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as look:
            newest = large.key_of(TASKS - 1)
            task = f"/task?user={newest.user_id}&chat={newest.chat_id}"
            lists = (*(f"/{name}" for name in LISTS), "/costs?by=tree", "/costs?by=label:team")
            overviews = ("/", f"/?user={newest.user_id}")
            for address in (*overviews, *lists, "/search?q=ferry", task, f"{task}&part=details"):
                Page(await look.get(address))
    finally:
        sa.event.remove(engine.sync_engine, "before_cursor_execute", note)
    assert compiled == []


def test_what_is_there_when_it_is_ready_is_not_searched_for_garbage_again() -> None:
    made: list[Any] = [[]]
    assert any(one is made for one in gc.get_objects())
    settle()
    assert not any(one is made for one in gc.get_objects())


async def test_a_store_that_has_nothing_or_fails_is_left_to_its_views(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path / 'tasks.db'}") as store:
        app = application(store, token=None)
        await warm(app)
    await warm(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost") as look:
        assert (await look.get("/tasks")).status_code >= 500
