"""Who in this process waits for a context to grow.

A notification may be superfluous, and it may be lost: subscribers also poll from time to time. So notifications only
affect how soon an update is delivered, and sending them can be kept cheap.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

from taskctx_sql.concurrency import shielded, wait_until_done

# Delivers the notifications of other processes to subscriptions, until it is cancelled.
Listener = Callable[["Subscriptions"], Coroutine[Any, Any, None]]


class Subscriptions:
    """The subscribers of a store, and the one listener that serves them all, if there is a way to listen.

    It runs while there are subscribers. Belongs to an event loop.
    """

    def __init__(self, listener: Listener | None) -> None:
        self._listener = listener
        self._listening: asyncio.Task[None] | None = None
        self._subscribers: dict[str, set[asyncio.Event]] = {}

    @property
    def context_ids(self) -> Collection[str]:
        """The contexts that have subscribers. Callable from any thread."""
        return tuple(self._subscribers)

    @asynccontextmanager
    async def subscribe(self, context_id: str) -> AsyncIterator[asyncio.Event]:
        """Yield an event that each notification about a context sets."""
        event = asyncio.Event()
        self._subscribers.setdefault(context_id, set()).add(event)
        if self._listener is not None and self._listening is None:
            self._listening = asyncio.create_task(self._listener(self), name="taskctx-listener")
        try:
            yield event
        finally:
            self._subscribers[context_id].discard(event)
            if not self._subscribers[context_id]:
                del self._subscribers[context_id]
            if not self._subscribers:
                await shielded(self.close())

    def deliver(self, context_ids: Iterable[str] | None = None) -> None:
        """Notify the subscribers of these contexts, or all subscribers."""
        for context_id in self.context_ids if context_ids is None else context_ids:
            for event in self._subscribers.get(context_id, ()):
                event.set()

    async def close(self) -> None:
        """Notify all subscribers and end the listener."""
        self.deliver()
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()
            await wait_until_done(listening)
