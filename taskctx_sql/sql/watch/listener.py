"""Where hints of other processes come from: LISTEN on Postgres, ``data_version`` on SQLite."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql.concurrency import on_thread
from taskctx_sql.sql import engines
from taskctx_sql.sql.plan import Plan, Statement, Step, compiled, text
from taskctx_sql.sql.schema import contexts
from taskctx_sql.sql.watch.notifications import Listening, Notifications, told

if TYPE_CHECKING:
    import asyncpg

logger = logging.getLogger(__name__)

CHANNEL: Final = "taskctx"
# Before a connection that was lost is tried again; until then, those who wait look for themselves.
RETRY_PAUSE: Final = 1.0
# How often a thread asks a SQLite file if it was written. While it is, that is soon; the pause doubles without news,
# since waking up is what costs.
FIRST_PAUSE: Final = 0.01
LONGEST_PAUSE: Final = 0.05


def listening(engine: AsyncEngine, *, transaction_pooling: bool) -> Listening | None:
    """Return how to listen on an engine, or None if there is no way."""
    if engines.can_listen(engine, transaction_pooling=transaction_pooling):
        return partial(_listen_on_postgres, engine)
    if engines.has_data_version(engine):
        return partial(_listen_on_sqlite, str(Path(str(engine.url.database)).absolute()))
    return None


def notify(payload: str) -> Plan[None]:
    """Return the steps that tell every listener of the database."""
    yield Step(_notify_all(), {"payload": payload}, reads=True)


async def _listen_on_postgres(engine: AsyncEngine, notifications: Notifications) -> None:
    told_of = False
    while True:
        try:
            async with _connection_beside_the_pool(engine) as connection:
                await _hear(connection, notifications)
                told_of = False
        except Exception as error:
            if not told_of:
                address = engines.mask(str(engine.url))
                logger.warning("cannot listen on %s, so who watches polls: %s", address, engines.reason(error))
            told_of = True
        await asyncio.sleep(RETRY_PAUSE)


async def _hear(connection: asyncpg.Connection, notifications: Notifications) -> None:
    """Pass on what is heard, until the connection is lost."""
    lost = asyncio.Event()
    connection.add_termination_listener(lambda _: lost.set())
    await connection.add_listener(CHANNEL, lambda *heard: notifications.give(told(heard[-1])))
    # Whatever was told before, nobody heard.
    notifications.give()
    await lost.wait()


@asynccontextmanager
async def _connection_beside_the_pool(engine: AsyncEngine) -> AsyncIterator[asyncpg.Connection]:
    """Yield a connection made as all of the engine's are, that takes nobody's place in its pool."""
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        driver: Any = raw.driver_connection
        raw.detach()
        try:
            yield driver
        finally:
            # Without a word to the server, which may not answer.
            driver.terminate()


async def _listen_on_sqlite(path: str, notifications: Notifications) -> None:
    ended = threading.Event()
    work = (path, notifications, asyncio.get_running_loop(), ended)
    # A daemon, so that a store that nobody closed does not keep the interpreter from its exit.
    thread = threading.Thread(target=_look_often, args=work, name="taskctx-listener", daemon=True)
    thread.start()
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        ended.set()
        await on_thread(thread.join)


# On a thread.


def _look_often(
    path: str, notifications: Notifications, loop: asyncio.AbstractEventLoop, ended: threading.Event
) -> None:
    file = _File(path)
    pause = FIRST_PAUSE
    while not ended.wait(pause):
        grown = file.grown(notifications.wanted)
        pause = min(2 * pause, LONGEST_PAUSE)
        if grown:
            pause = FIRST_PAUSE
            # A loop that is closed has nobody waiting.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(notifications.give, grown)
    file.close()


class _File:
    """A SQLite file, and how far some of its contexts were when it was looked at last.

    Args:
        path: Where it is.
    """

    def __init__(self, path: str) -> None:
        """Take the file; nothing is opened yet."""
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._version: int | None = None
        self._counters: dict[str, Any] = {}

    def grown(self, context_ids: Collection[str]) -> list[str]:
        """Return which of them have changed since they were looked at last, or were not looked at yet."""
        try:
            connection = self._connect()
            # To the end each time: a statement that is under way would hold back checkpoints.
            ((version,),) = connection.execute("PRAGMA data_version").fetchall()
            if version == self._version:
                return []
            before = self._counters
            counter = compiled("sqlite", _counter()).sql
            self._counters = {
                context_id: connection.execute(counter, (context_id,)).fetchall() for context_id in context_ids
            }
        except sqlite3.Error:
            # Locked, or gone: those who wait look for themselves, and tell what is the matter.
            self.close()
            return []
        self._version = version
        return [
            context_id
            for context_id, place in self._counters.items()
            if context_id not in before or before[context_id] != place
        ]

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._connection.close()
        self._connection = self._version = None

    def _connect(self) -> sqlite3.Connection:
        now = engines.file_identity(self._path)
        if now != self._identity:
            # Another file has the name, or none.
            self.close()
        if self._connection is None:
            self._connection, self._identity = engines.connect_sqlite_to_poll(self._path), now
        return self._connection


@cache
def _notify_all() -> Statement:
    return sa.select(sa.func.pg_notify(CHANNEL, text("payload")))


@cache
def _counter() -> Statement:
    return sa.select(contexts.c.next_seq).where(contexts.c.context_id == text("context"))
