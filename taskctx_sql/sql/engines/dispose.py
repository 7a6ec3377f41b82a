"""Disposal of an engine: its connections are closed, and the threads of its driver have ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet

import aiosqlite
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql.concurrency import check_queues
from taskctx_sql.sql.engines.addresses import mask

logger: logging.Logger = logging.getLogger(__name__)

# How long closing a connection may take, and after that the end of the driver's threads.
GOODBYE_SECONDS: Final = 1.0
# Threads end in less, once their connection is closed.
PAUSE: Final = 0.001


class _Connection(sqlite3.Connection):
    """A connection whose locks end when it is closed, also if a call was cancelled between a statement and its rows.

    The cursor of that statement lives on in the traceback, and with it the connection and its locks.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()

    def cursor(self, *arguments: Any, **settings: Any) -> Any:
        cursor = super().cursor(*arguments, **settings)
        self._cursors.add(cursor)
        return cursor

    def close(self) -> None:
        for cursor in list(self._cursors):
            cursor.close()
        with contextlib.suppress(sqlite3.Error):
            self.rollback()
        super().close()


_connections: Final[WeakKeyDictionary[sa.Engine, WeakSet[aiosqlite.Connection]]] = WeakKeyDictionary()


def track_threads(engine: AsyncEngine) -> None:
    """Let `dispose` wait for the end of the threads that an engine of aiosqlite starts.

    Connecting raises ReplacedQueuesError where gevent keeps such a thread from receiving anything.
    """
    connections = _connections[engine.sync_engine] = WeakSet()

    def create(*arguments: Any, **settings: Any) -> aiosqlite.Connection:
        connection = aiosqlite.connect(*arguments, **settings, factory=_Connection)
        # SQLAlchemy before 2.0.45 does not find the thread to make it a daemon.
        connection._thread.daemon = True
        connections.add(connection)
        return connection

    def connect(dialect: Any, record: Any, arguments: list[Any], settings: dict[str, Any]) -> None:
        check_queues()
        settings["async_creator_fn"] = create

    event.listen(engine.sync_engine, "do_connect", connect)


async def dispose(engine: AsyncEngine) -> None:
    """Close the connections in an engine's pool, and return when nothing of them is left.

    A server that does not answer delays this only briefly. A connection that is in use is closed when it is released.
    """
    address = mask(engine.url)
    while True:
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                await engine.dispose()
            break
        except TimeoutError:
            # The connection that got no answer is closed now; dispose() goes on with the next one.
            logger.warning("%s did not answer when a connection was closed", address)
    until = time.monotonic() + GOODBYE_SECONDS
    threads = [connection._thread for connection in _connections.get(engine.sync_engine, ())]
    if not engine.dialect.has_terminate:
        # SQLAlchemy before 2.0.44 leaves those open that failed while they were set up, or whose call was cancelled.
        for connection in _connections.get(engine.sync_engine, ()):
            connection.stop()
    # Polled, since the end of a thread notifies no event loop.
    while any(thread.is_alive() for thread in threads):
        if time.monotonic() > until:
            logger.warning("a statement in %s goes on after its connection was closed", address)
            return
        await asyncio.sleep(PAUSE)
