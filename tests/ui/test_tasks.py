"""The views of a task as pages: each part answers, hostile ids and texts are only shown, a whole update is a file."""

from __future__ import annotations

import asyncio
import json
import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import sqlalchemy as sa

from taskctx_sql import ContextKey, ContextUpdate, SqlStore
from taskctx_sql.ui.links import ServerLinks
from taskctx_sql.ui.server import application
from tests.support.waiting import SOON
from tests.ui.conftest import PATIENCE

HOSTILE = "</title></script><script>alert(1)</script>\"'><img src=x onerror=alert(1)> {{ 7 * 7 }} \u202e /../?#%2F"
LINKS = ServerLinks()


class Found(HTMLParser):
    """The elements and the text of a page, each of whose elements is closed."""

    VOID = frozenset({"meta", "link", "input", "br", "line", "circle", "rect", "use", "text"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def browser(store: SqlStore, user_id: str | None = None, patience: float = PATIENCE) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(application(store, token=None, user_id=user_id, patience=patience))
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")


@pytest.fixture
async def key(sql_store: SqlStore, user: str) -> ContextKey:
    """A task in which every text is hostile."""
    key = ContextKey(f"{user} {HOSTILE}"[:250], HOSTILE[:200])
    kinds = ("message", "tool_call", "tool_result", "error", "reasoning", HOSTILE)
    updates = [ContextUpdate(10.0, kind, {HOSTILE: HOSTILE, "content": HOSTILE}, {"group": HOSTILE}) for kind in kinds]
    use = {"model_id": HOSTILE, "provider_id": HOSTILE, "mode": HOSTILE, "timestamp": 10.0, "duration": 1.0}
    await sql_store.write(key, updates=updates, models=[use], title=HOSTILE[:200], labels={HOSTILE: HOSTILE})
    large = ContextUpdate(11.0, "message", {"content": "x" * 50_000}, {})
    await sql_store.write(key, updates=[large], state={HOSTILE: HOSTILE}, remove_updates=[2])
    return key


async def test_every_part_of_a_task_shows_hostile_texts_and_runs_none(sql_store: SqlStore, key: ContextKey) -> None:
    of = (key.user_id, key.chat_id)
    addresses = [
        *(LINKS.task(*of), LINKS.task(*of, revision=1), LINKS.task(*of, seq=3), LINKS.task(*of, page="1")),
        *(LINKS.task(*of, part="details"), LINKS.task(*of, part="details", revision=1, page="a")),
        *(LINKS.task(*of, part="history"), LINKS.task(*of, part="history", page="2")),
        *(LINKS.task(*of, part="update", seq=1), LINKS.changes(*of, 1, 2)),
    ]
    async with browser(sql_store) as client:
        for address in addresses:
            answer = await client.get(address)
            assert answer.status_code == 200, (address, answer.text)
            found = Found(answer.text)
            assert not {"img", "iframe", "object", "style"} & found.names
            assert answer.text.count("<script") == answer.text.count("<script src=")
            assert not [name for name, _ in found.attributes if name.startswith("on") or name == "style"]
            # No address leads elsewhere, and no text turns its neighbors around.
            assert all((value or "")[:1] in "/#" for name, value in found.attributes if name in ("href", "src"))
            # Only a form sends ids back as they are.
            assert "\u202e" not in re.sub('<input type="hidden"[^>]*>', "", answer.text)
        assert "{{ 7 * 7 }}" in "".join(Found((await client.get(LINKS.task(*of))).text).texts)


async def test_a_long_update_has_an_address_for_the_whole(sql_store: SqlStore, key: ContextKey) -> None:
    of = (key.user_id, key.chat_id)
    async with browser(sql_store) as client:
        shown = await client.get(LINKS.task(*of))
        assert len(shown.text) < 60_000
        whole = LINKS.task(*of, seq=7, part="update")
        assert whole.replace("&", "&amp;") in shown.text
        assert "x" * 50_000 in (await client.get(whole)).text
        file = await client.get(LINKS.task(*of, seq=7, part="json"))
        assert file.headers["content-disposition"] == 'attachment; filename="update-7.json"'
        assert json.loads(file.text) == {"content": "x" * 50_000}


async def test_what_makes_no_sense_is_a_page_that_says_so(sql_store: SqlStore, key: ContextKey) -> None:
    here = f"/task?user={quote(key.user_id)}&chat={quote(key.chat_id)}"
    wrong = {
        "/task?user=nobody&chat=none": 404,
        f"{here}&revision=9": 404,
        f"{here}&revision=-1": 400,
        f"{here}&seq={'9' * 30}": 400,
        f"{here}&part=update&seq=99": 400,
        f"{here}&part=nonsense": 400,
        f"{here.replace('/task', '/task/changes')}&old=1": 400,
        "/task/events?user=nobody&chat=none": 404,
    }
    async with browser(sql_store) as client:
        for address, status in wrong.items():
            answer = await client.get(address)
            assert answer.status_code == status, (address, answer.text)
            assert "<h1" in answer.text
    async with browser(sql_store, user_id="somebody else") as client:
        assert (await client.get(here)).status_code == 404


async def test_a_long_task_is_shown_before_its_sums_are_known(
    sql_store: SqlStore, key: ContextKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskctx_sql.pages.task.LONG", 1)
    of = (key.user_id, key.chat_id)
    summed, read = asyncio.Event(), sql_store.reports.context_models

    async def context_models(_: Any, of: ContextKey) -> Any:
        await summed.wait()
        return await read(of)

    monkeypatch.setattr(type(sql_store.reports), "context_models", context_models)
    async with asyncio.timeout(2 * SOON), browser(sql_store, patience=0.01) as client:
        for address in (LINKS.task(*of), LINKS.task(*of, part="details")):
            early = (await client.get(address)).text
            assert 'http-equiv="refresh"' in early
            assert "Being read" in early or re.search(r"<b>\.\.\.</b>\s*<span>cost", early)
        summed.set()
        while 'http-equiv="refresh"' in (late := (await client.get(LINKS.task(*of))).text):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert re.search(r"<b>1</b>\s*<span>model calls", late)


@pytest.mark.parametrize("part", ["", "details"])
async def test_what_a_view_always_has_is_asked_for_before_what_takes_long(
    sql_store: SqlStore, key: ContextKey, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskctx_sql.pages.task.LONG", 1)
    engine, _ = sql_store.engine_and_schema()
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT"):
            sent.append(statement)

    sa.event.listen(engine.sync_engine, "before_cursor_execute", note)
    try:
        async with browser(sql_store) as client:
            assert "refresh" not in (await client.get(LINKS.task(key.user_id, key.chat_id, part=part))).text
    finally:
        sa.event.remove(engine.sync_engine, "before_cursor_execute", note)
    own = [bool(re.match(r"SELECT (\S+\.)?taskctx_(updates|files|state|runs)\.", statement)) for statement in sent]
    sums = ["taskctx_report_uses" in statement for statement in sent]
    assert sums.count(True) == 1
    assert own.count(True) > 2
    assert not any(own[sums.index(True) :])
