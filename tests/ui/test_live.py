"""Live updates: they are sent as they are saved, resumed, limited, and end with the browser."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import pytest
from starlette.applications import Starlette

from taskctx_sql import ContextKey, ContextUpdate, SqlStore, Store, TaskContext
from taskctx_sql.pages import Selection
from taskctx_sql.ui import live
from taskctx_sql.ui.links import ServerLinks
from taskctx_sql.ui.server import application, listen, serve
from tests.support.waiting import SOON
from tests.ui.conftest import PATIENCE


@pytest.fixture
def key(user: str) -> ContextKey:
    return ContextKey(user, "live")


def said(text: str) -> ContextUpdate:
    return ContextUpdate(1.0, "message", text, {"role": "user"})


Event = tuple[str, dict[str, Any]]


@asynccontextmanager
async def following(follower: live.Follower) -> AsyncIterator[Callable[[], Awaitable[Event]]]:
    """Yield what returns the next event: its name and its data."""
    async with asyncio.timeout(SOON), aclosing(follower.events()) as sent:

        async def following_event() -> Event:
            while True:
                event = await anext(sent)
                lines = dict(line.split(": ", 1) for line in event.splitlines() if ": " in line and line[0] != ":")
                if "event" in lines:
                    return lines["event"], json.loads(lines["data"])

        yield following_event


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked often whether a run has ended."""
    monkeypatch.setattr(live, "_ASK", 0.05)


async def test_what_was_saved_since_is_sent_as_html(sql_store: SqlStore, key: ContextKey) -> None:
    await sql_store.write(key, updates=[said("first"), said("<b>second</b>")])
    async with following(live.Follower(sql_store, key, 1, Selection())) as event:
        (name, sent), (other, parts) = await event(), await event()
    assert (name, other) == ("updates", "parts")
    assert "&lt;b&gt;second&lt;/b&gt;" in sent["html"]
    assert "first" not in sent["html"]
    assert 'data-seq="2"' in sent["html"]
    assert {"about", "ended", "tiles", "course"} <= parts.keys()


async def restore(store: Store, key: ContextKey, revision: int) -> None:
    context = TaskContext({"user_id": key.user_id, "chat_id": key.chat_id}, store=store)
    await context.load()
    await context.restore(revision)


@pytest.mark.usefixtures("quick")
async def test_what_was_removed_since_the_page_was_made_is_marked(sql_store: SqlStore, key: ContextKey) -> None:
    for text in ("first", "second"):
        await sql_store.write(key, updates=[said(text)])
    await restore(sql_store, key, 1)
    async with following(live.Follower(sql_store, key, 2, Selection(), 2)) as event:
        (name, marks), (other, _) = await event(), await event()
        assert (name, other) == ("removed", "parts")
        assert marks == {"2": '<span class="tag">removed in revision 3</span>'}
        await sql_store.write(key, updates=[said("third")])
        # Of what is removed from now on, nothing is told twice.
        assert [(await event())[0] for _ in range(2)] == ["updates", "parts"]
        await restore(sql_store, key, 1)
        assert await event() == ("removed", {"3": '<span class="tag">removed in revision 5</span>'})
    async with following(live.Follower(sql_store, key, 3, Selection(), 5)) as event:
        assert (await event())[0] == "parts"


@pytest.mark.usefixtures("quick")
async def test_the_end_of_a_run_is_sent_though_nothing_else_changed(sql_store: SqlStore, key: ContextKey) -> None:
    async with following(live.Follower(sql_store, key, 1, Selection())) as event:
        async with TaskContext({"user_id": key.user_id, "chat_id": key.chat_id}, store=sql_store) as context:
            context.add_context_update("message", "hello")
            await context.save()
            assert "unfinished" in (await event())[1]["ended"]
        assert "completed" in (await event())[1]["ended"]


@pytest.mark.usefixtures("quick")
async def test_a_page_far_behind_is_loaded_anew_and_a_deleted_task_is_said(
    sql_store: SqlStore, key: ContextKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_BEHIND", 2)
    await sql_store.write(key, updates=[said(str(number)) for number in range(4)])
    async with following(live.Follower(sql_store, key, 0, Selection())) as event:
        assert (await event())[0] == "behind"
    async with following(live.Follower(sql_store, key, 4, Selection())) as event:
        assert (await event())[0] == "parts"
        await sql_store.delete(key)
        assert (await event())[0] == "gone"


@asynccontextmanager
async def served(made: Starlette) -> AsyncIterator[int]:
    """Serve an application, and yield its port."""
    with listen("127.0.0.1", 0) as listening:
        serving = asyncio.create_task(serve(made, listening))
        yield listening.getsockname()[1]
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


async def ask(port: int, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {address} HTTP/1.1\r\nHost: 127.0.0.1\r\nLast-Event-ID: 1\r\n\r\n".encode())
    return reader, writer


async def test_a_stream_ends_with_its_browser_and_there_are_not_too_many(
    sql_store: SqlStore, key: ContextKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_STREAMS", 2)
    await sql_store.write(key, updates=[said("one")])
    made = application(sql_store, token=None, patience=PATIENCE)
    address = ServerLinks().events(key.user_id, key.chat_id, 0, 1)
    async with asyncio.timeout(SOON), served(made) as port:
        connections = [await ask(port, address) for _ in range(2)]
        for reader, _ in connections:
            assert b"text/event-stream" in await reader.readuntil(b"\r\n\r\n")
            # Resumed from the last event: the first update is not sent again.
            assert b"data-seq" not in await reader.readuntil(b"event: parts")
        refused, writer = await ask(port, address)
        assert b" 503 " in await refused.readline()
        await sql_store.write(key, updates=[said("two")])
        for reader, _ in connections:
            assert b"two" in await reader.readuntil(b"event: parts")
        for _, each in (*connections, (refused, writer)):
            each.close()
            await each.wait_closed()
        while made.state.streams.open:  # noqa: ASYNC110  # the server has no event for it
            await asyncio.sleep(0.02)
        assert not [task for task in asyncio.all_tasks() if "_watch" in repr(task.get_coro())]
