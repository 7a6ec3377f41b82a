"""Hints that a context has grown: who waits for them here, and how other processes are told.

A hint may come for nothing, or be lost: whoever waits also looks for himself from time to time. So nothing rests on
them but how soon an update is seen, and what telling costs can be kept small.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

from taskctx_sql.concurrency import shielded, wait_until_done

logger = logging.getLogger(__name__)

# Postgres commits transactions that notify one after the other, each with a lock of the whole server. So a saver's own
# statement does not notify, and a store does it at most this often.
PAUSE_BETWEEN: Final = 0.05
# Postgres takes 8,000 bytes, and an id has 36.
MOST_IDS: Final = 200

# Gives hints until it is cancelled.
Listening = Callable[["Notifications"], Coroutine[Any, Any, None]]


class Notifications:
    """Those of a store who wait for hints, and the one listener that serves them all. Belongs to an event loop.

    Args:
        listening: Where hints of other processes come from, if anywhere. It runs while somebody waits.
    """

    def __init__(self, listening: Listening | None) -> None:
        """Nobody waits yet."""
        self._listening = listening
        self._listener: asyncio.Task[None] | None = None
        self._waiting: dict[str, set[asyncio.Event]] = {}

    @property
    def wanted(self) -> Collection[str]:
        """The ids of the contexts that somebody waits for. From any thread."""
        return tuple(self._waiting)

    @asynccontextmanager
    async def of(self, context_id: str) -> AsyncIterator[asyncio.Event]:
        """Yield an event that each hint about the context sets."""
        event = asyncio.Event()
        self._waiting.setdefault(context_id, set()).add(event)
        if self._listening is not None and self._listener is None:
            self._listener = asyncio.create_task(self._listening(self), name="taskctx-listener")
        try:
            yield event
        finally:
            self._waiting[context_id].discard(event)
            if not self._waiting[context_id]:
                del self._waiting[context_id]
            if not self._waiting:
                await shielded(self.close())

    def give(self, context_ids: Iterable[str] | None = None) -> None:
        """Wake those who wait for these contexts; all who wait, if it is not known which."""
        for context_id in self.wanted if context_ids is None else context_ids:
            for event in self._waiting.get(context_id, ()):
                event.set()

    async def close(self) -> None:
        """End the listener, and let everybody look."""
        self.give()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.cancel()
            await wait_until_done(listener)


class Notifier:
    """Tells other processes which contexts have grown: at once, and then together with what comes in a pause.

    Args:
        send: Sends a payload.
    """

    def __init__(self, send: Callable[[str], Awaitable[Any]]) -> None:
        """There is nothing to tell yet."""
        self._send = send
        self._ids: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    def tell(self, context_id: str) -> None:
        """Tell it soon. Nobody waits for that, and no failure of it is anybody's."""
        self._ids.add(context_id)
        if self._task is None:
            self._task = asyncio.create_task(self._tell(), name="taskctx-hints")

    async def close(self) -> None:
        """Tell what is left, at once."""
        self._closing.set()
        if self._task is not None:
            await wait_until_done(self._task)

    async def _tell(self) -> None:
        try:
            while self._ids:
                ids, self._ids = self._ids, set()
                try:
                    await self._send(payload(ids))
                except Exception:
                    # Those who watch look for themselves; the next save finds out if the database is away.
                    logger.debug("could not tell who watches", exc_info=True)
                await _wait(self._closing, PAUSE_BETWEEN)
        finally:
            self._task = None


def payload(context_ids: Collection[str]) -> str:
    """Return what tells of these contexts; too many of them are told as "any"."""
    return ",".join(context_ids) if len(context_ids) <= MOST_IDS else ""


def told(payload: str) -> list[str] | None:
    """Return which contexts a payload tells of, or None for any."""
    return payload.split(",") if payload else None


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
