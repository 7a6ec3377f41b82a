"""Receiving the notifications of other processes: LISTEN on Postgres, ``data_version`` on SQLite."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql.concurrency import on_thread
from taskctx_sql.sql import engines
from taskctx_sql.sql.load import as_of
from taskctx_sql.sql.plan import compiled
from taskctx_sql.sql.watch.notifier import CHANNEL, decode_payload
from taskctx_sql.sql.watch.subscriptions import Listener, Subscriptions

logger: logging.Logger = logging.getLogger(__name__)

# Before a lost connection is opened again. Until then subscribers poll.
RECONNECT_PAUSE: Final = 1.0
# How often a thread checks a SQLite file for writes. The pause doubles while there are none, because waking up is
# what costs.
FIRST_PAUSE: Final = 0.01
LONGEST_PAUSE: Final = 0.05


def listener_of(engine: AsyncEngine, *, transaction_pooling: bool) -> Listener | None:
    """Return the listener for an engine, or None if there is no way to listen."""
    if engines.can_listen(engine, transaction_pooling=transaction_pooling):
        return partial(_listen_on_postgres, engine)
    if engines.has_data_version(engine):
        return partial(_listen_on_sqlite, str(Path(str(engine.url.database)).absolute()))
    return None


async def _listen_on_postgres(engine: AsyncEngine, subscriptions: Subscriptions) -> None:
    logged = False
    while True:
        try:
            await _deliver(engine, subscriptions)
            logged = False
        except Exception as error:
            if not logged:
                database_url = engines.mask(engine.url)
                logger.warning("cannot listen on %s, so watches poll: %s", database_url, engines.reason(error))
            logged = True
        await asyncio.sleep(RECONNECT_PAUSE)


async def _deliver(engine: AsyncEngine, subscriptions: Subscriptions) -> None:
    """Deliver notifications until the connection, which is detached from the pool, is lost."""
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        driver: Any = raw.driver_connection
        raw.detach()
        deliver = _deliver_by_psycopg if engine.driver == "psycopg" else _deliver_by_asyncpg
        try:
            await deliver(driver, subscriptions)
        finally:
            # It is closed, so the pool must not roll back on it.
            await connection.invalidate()


async def _deliver_by_asyncpg(driver: Any, subscriptions: Subscriptions) -> None:
    lost = asyncio.Event()
    try:
        driver.add_termination_listener(lambda _: lost.set())
        await driver.add_listener(CHANNEL, lambda *received: subscriptions.deliver(decode_payload(received[-1])))
        # Earlier notifications were missed.
        subscriptions.deliver()
        await lost.wait()
    finally:
        # Without a message to the server, which may not answer.
        driver.terminate()


async def _deliver_by_psycopg(driver: Any, subscriptions: Subscriptions) -> None:
    try:
        await driver.set_autocommit(True)
        await driver.execute(f"LISTEN {CHANNEL}")
        subscriptions.deliver()
        async for received in driver.notifies():
            subscriptions.deliver(decode_payload(received.payload))
    finally:
        # It does not wait for the server.
        await driver.close()


async def _listen_on_sqlite(path: str, subscriptions: Subscriptions) -> None:
    ended = threading.Event()
    arguments = (path, subscriptions, asyncio.get_running_loop(), ended)
    # A daemon, so that a store that was not closed does not keep the interpreter from exiting.
    thread = threading.Thread(target=_poll, args=arguments, name="taskctx-listener", daemon=True)
    thread.start()
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        ended.set()
        await on_thread(thread.join)


def _poll(path: str, subscriptions: Subscriptions, loop: asyncio.AbstractEventLoop, ended: threading.Event) -> None:
    file = _File(path)
    pause = FIRST_PAUSE
    while not ended.wait(pause):
        changed = file.changed(subscriptions.context_ids)
        pause = min(2 * pause, LONGEST_PAUSE)
        if changed:
            pause = FIRST_PAUSE
            # A closed loop has nobody waiting.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(subscriptions.deliver, changed)
    file.close()


class _File:
    """A SQLite file, and the next seqs of some of its contexts when it was last read."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._version: int | None = None
        self._next_seqs: dict[str, Any] = {}

    def changed(self, context_ids: Collection[str]) -> list[str]:
        """Return which of the contexts have changed since the last call, or were not in it."""
        try:
            connection = self._connect()
            # All rows are fetched each time: a statement in progress would hold back checkpoints.
            ((version,),) = connection.execute("PRAGMA data_version").fetchall()
            if version == self._version:
                return []
            select = compiled("sqlite", as_of.select_current("next_seq"))
            before = self._next_seqs
            self._next_seqs = {
                context_id: connection.execute(select.sql, select.values({"context": context_id})).fetchall()
                for context_id in context_ids
            }
        except sqlite3.Error:
            # Locked or gone: subscribers poll, and report the error.
            self.close()
            return []
        self._version = version
        return [context_id for context_id, next_seq in self._next_seqs.items() if before.get(context_id) != next_seq]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._version = None

    def _connect(self) -> sqlite3.Connection:
        now = engines.file_identity(self._path)
        if now != self._identity:
            # The file was replaced or removed.
            self.close()
        if self._connection is None:
            self._connection, self._identity = engines.connect_sqlite_to_poll(self._path), now
        return self._connection
