"""New updates of a task for a page that is open, as server-sent events over `Store.watch`.

The server renders them, so that the page has one way to show an update. An event's id is the seq of the last update
in it: a browser that lost the connection goes on from there by itself.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from taskctx_sql.errors import ContextNotFoundError, TaskContextError
from taskctx_sql.model import ContextKey
from taskctx_sql.model.context_rows import LastRun
from taskctx_sql.pages import Selection, render
from taskctx_sql.pages.conversation import PAGE, last_answer
from taskctx_sql.pages.entries import MAX_TEXT, entries_of
from taskctx_sql.pages.task import Head, collect_course, collect_head, waterfall_of_task
from taskctx_sql.stores import Store
from taskctx_sql.ui.pages import LINKS
from taskctx_sql.ui.tasks import key_of, number_of

# Each open page is a connection, and a context that is watched.
MAX_STREAMS: Final = 24
# A page that is further behind is loaded anew.
MAX_BEHIND: Final = 1_000
# Among so many of the newest updates, those that were removed are marked.
MAX_MARKED: Final = 10_000
# The times in seconds: how long updates are gathered, how often it is asked whether a run ended without an update, and
# after which silence a comment is sent, so that nobody in between closes the connection.
_GATHER: Final = 0.1
_ASK: Final = 2.0
_KEEP_ALIVE: Final = 15.0


@dataclass(slots=True)
class Streams:
    """The open streams of an application, as their number."""

    open: int = 0


async def events(request: Request) -> Response:
    """Send a task's new updates for as long as the browser listens."""
    streams, store, key = _streams(request), request.app.state.store, key_of(request)
    resumed = request.headers.get("last-event-id", "")
    after = int(resumed) if resumed.isdecimal() and len(resumed) < 19 else (number_of(request, "after") or 0)
    # A task that is not there gets a page that says so.
    await store.revisions(key, limit=1)
    if streams.open >= MAX_STREAMS:
        said = f"{MAX_STREAMS} pages get new updates already: close some, or reload this one for its updates.\n"
        return PlainTextResponse(said, status_code=503)
    if request.method == "HEAD":
        return Response(media_type="text/event-stream")
    selection, revision = Selection(user=request.app.state.user_id), number_of(request, "revision")
    follower = Follower(store, key, after, selection, revision)
    return StreamingResponse(_counted(streams, follower), media_type="text/event-stream")


def _streams(request: Request) -> Streams:
    state = request.app.state
    if not hasattr(state, "streams"):
        state.streams = Streams()
    streams: Streams = state.streams
    return streams


async def _counted(streams: Streams, follower: Follower) -> AsyncGenerator[str, None]:
    streams.open += 1
    try:
        async with aclosing(follower.events()) as sent:
            async for event in sent:
                yield event
    finally:
        streams.open -= 1


@dataclass(slots=True)
class Follower:
    """Follows a task from an update on, which a page showed as it was in a revision; None for what it is now."""

    store: Store
    key: ContextKey
    after: int
    selection: Selection
    revision: int | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _state: tuple[int, list[LastRun]] | None = None

    async def events(self) -> AsyncGenerator[str, None]:
        """Yield the events as they are sent; it ends if the task is deleted, or the store fails."""
        watching = asyncio.create_task(self._watch())
        try:
            yield ": the new updates of a task\n\n"
            silent = 0.0
            while not watching.done():
                with suppress(TimeoutError):
                    async with asyncio.timeout(_ASK):
                        await self._news.wait()
                        await asyncio.sleep(_GATHER)
                self._news.clear()
                sent = False
                async for event in self._since():
                    sent = True
                    yield event
                silent = 0.0 if sent else silent + _ASK
                if silent >= _KEEP_ALIVE:
                    silent = 0.0
                    yield ":\n\n"
            await watching
        except ContextNotFoundError:
            yield _event("gone", {})
        except TaskContextError:
            # The browser connects again, and gets a page that names the error if it stays.
            return
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError, TaskContextError):
                await watching

    async def _watch(self) -> None:
        async with aclosing(self.store.watch(self.key, after=self.after)) as found:
            async for _ in found:
                self._news.set()

    async def _since(self) -> AsyncGenerator[str, None]:
        """Yield the events of what was saved since the last ones."""
        (newest,) = await self.store.revisions(self.key, limit=1)
        # The end of a run is no revision.
        state = (newest.revision, await self.store.reports.last_runs(self.key, limit=1))
        if state == self._state:
            return
        timeline = self.store.reports.timeline
        last = await timeline(self.key, limit=1, max_characters=1)
        if last and last[0].seq - self.after > MAX_BEHIND:
            yield _event("behind", {})
            return
        while rows := await timeline(self.key, limit=PAGE, after=self.after, oldest=True, max_characters=MAX_TEXT):
            self.after = rows[-1].seq
            yield _event("updates", {"html": self._render("entries", entries=entries_of(rows))}, self.after)
        if removed := await self._removed(newest.revision):
            yield _event("removed", removed)
        self._state, self.revision = state, newest.revision
        yield _event("parts", await self._parts(await collect_head(self.store, self.key)), self.after)

    async def _removed(self, newest: int) -> dict[str, str]:
        """Return the marks of the updates that were removed since the last events, by seq."""
        known = newest if self.revision is None else self.revision
        if newest <= known:
            return {}
        since = await self.store.revisions(self.key, limit=min(newest - known, MAX_BEHIND))
        if len(since) < MAX_BEHIND and not any(revision.removed for revision in since):
            return {}
        rows = await self.store.reports.timeline(self.key, limit=MAX_MARKED, max_characters=1)
        gone = [row for row in rows if row.removed_in is not None and row.removed_in > known]
        return {str(row.seq): self._render("gone", entry=row) for row in gone}

    async def _parts(self, head: Head) -> dict[str, str]:
        """Return the parts of the page above the conversation."""
        rows = await self.store.reports.timeline(self.key, limit=20, max_characters=MAX_TEXT)
        entries = entries_of(rows)
        shown: dict[str, Any] = {
            "head": head,
            "ended": last_answer(entries),
            "fall": waterfall_of_task(head, await collect_course(self.store, head), entries),
        }
        parts = (
            "about",
            "ended",
            "tiles",
            "course",
            *(() if head.family is None or head.family.is_alone else ("tree",)),
        )
        return {part: self._render(part, **shown) for part in parts}

    def _render(self, part: str, **shown: Any) -> str:
        return render("live", LINKS, part=part, key=self.key, selection=self.selection, **shown)


def _event(name: str, data: dict[str, str], last: int | None = None) -> str:
    # As JSON there is no line break in it, which would end the data.
    identity = "" if last is None else f"id: {last}\n"
    return f"{identity}event: {name}\ndata: {json.dumps(data)}\n\n"
