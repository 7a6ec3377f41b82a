"""The end of an engine of ours: its connections say goodbye, and its driver's threads are waited for."""

from __future__ import annotations

import asyncio
import logging
import time
from threading import Thread
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet

import aiosqlite
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql.concurrency import check_queues
from taskctx_sql.sql.engines import addresses

logger = logging.getLogger(__name__)

# How long a connection has for saying goodbye, and after it the driver's threads for their end.
GOODBYE_SECONDS: Final = 1.0
# Threads end in less, once their connection is closed.
PAUSE: Final = 0.001

_threads: Final[WeakKeyDictionary[sa.Engine, WeakSet[Thread]]] = WeakKeyDictionary()


class Threads:
    """The threads that the connections of an aiosqlite engine have: closing a connection does not wait for its end.

    `connect` goes to the engine's ``connect_args``, as ``async_creator_fn``.
    """

    def __init__(self) -> None:
        """There are none yet."""
        self._threads: WeakSet[Thread] = WeakSet()

    def connect(self, *arguments: Any, **settings: Any) -> aiosqlite.Connection:
        """Return a connection that is about to be opened; its thread is noted also if that fails.

        Raises:
            ReplacedQueuesError: Its thread could not be told anything.
        """
        check_queues()
        connection = aiosqlite.connect(*arguments, **settings)
        # A daemon, as SQLAlchemy has it: a store that nobody closed does not keep the interpreter from its exit.
        connection._thread.daemon = True
        self._threads.add(connection._thread)
        return connection

    def belong_to(self, engine: AsyncEngine) -> None:
        """Be waited for when the engine is disposed."""
        _threads[engine.sync_engine] = self._threads


async def dispose(engine: AsyncEngine) -> None:
    """Close the connections that are in an engine's pool, and return when nothing of them is left.

    A server that does not answer holds up nothing for long. What is checked out is closed when it is given back.
    """
    address = addresses.mask(str(engine.url))
    left = True
    while left:
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                await engine.dispose()
            left = False
        except TimeoutError:
            # The one that got no answer is closed now, and the next one's turn comes.
            logger.warning("%s did not answer when a connection was closed", address)
    until = time.monotonic() + GOODBYE_SECONDS
    # A thread cannot wake who waits for its end.
    while any(thread.is_alive() for thread in _threads.get(engine.sync_engine, ())):
        if time.monotonic() > until:
            logger.warning("a statement in %s goes on after its connection was closed", address)
            return
        await asyncio.sleep(PAUSE)
