"""Connections to SQLite, SQLAlchemy's and the driver's own, with the settings that the guarantees depend on."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool, StaticPool

from taskctx_sql.model import ConnectionOptions
from taskctx_sql.sql.engines import read_only
from taskctx_sql.sql.engines.addresses import is_file, is_memory, is_plain_file
from taskctx_sql.sql.engines.dispose import track_threads

# Eight processes that append to one file waited 4.3 s at most (80,000 saves).
SQLITE_BUSY_SECONDS: Final = 60.0
# After how many pages of 4 kB the log is written back to the file. SQLite's default is 1,000, every 40 steps of an
# agent; the pages that each save changes would be written back as often, with two syncs.
LOG_PAGES: Final = 4_000


def create_sqlite_engine(url: sa.URL, options: ConnectionOptions, lock_seconds: float | None) -> AsyncEngine:
    """Return an engine for SQLite; see `create_engine`."""
    lock_seconds = lock_seconds_of(url, options, lock_seconds)
    settings: dict[str, Any] = {"timeout": busy_seconds(lock_seconds), "isolation_level": None}
    if "cached_statements" in url.query:
        settings["cached_statements"] = int(str(url.query["cached_statements"]))
    url = url.difference_update_query(["timeout", "cached_statements"])
    if is_file(url):
        # A program may change its working directory between two connections.
        url = url.set(database=str(Path(str(url.database)).absolute()))
    pool: dict[str, Any] = {"pool_size": 5, "max_overflow": 10}
    if is_memory(url):
        pool = {"poolclass": StaticPool}
    elif is_plain_file(url) and read_only.options(str(url.database)) is not None:
        # A connection that takes the file for unchanging is not kept: others may write to it.
        pool = {"poolclass": NullPool}
    # Parameters are hidden: what people store does not belong in messages and tracebacks.
    engine = create_async_engine(url, hide_parameters=True, connect_args=settings, **pool)
    track_threads(engine)
    if is_plain_file(url):
        event.listen(engine.sync_engine, "do_connect", _connect_read_only)
    event.listen(engine.sync_engine, "connect", partial(_set_up, lock_seconds=lock_seconds))
    return engine


def connect_sqlite(path: str, lock_seconds: float | None = None) -> sqlite3.Connection:
    """Return a connection of the driver's own, for one thread at a time, with the library's settings.

    A missing file is an error: a new one would be empty.
    """
    connection = sqlite3.connect(
        read_only.address(path, read_only.options(path) or "mode=rw"),
        uri=True,
        timeout=busy_seconds(lock_seconds),
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        _set_up(connection, None, lock_seconds=lock_seconds)
    except BaseException:
        connection.close()
        raise
    return connection


def connect_sqlite_to_poll(path: str) -> sqlite3.Connection:
    """Return a connection of the driver's own, for one thread at a time, that changes no setting of the file."""
    return sqlite3.connect(
        f"{Path(path).as_uri()}?mode=rw", uri=True, timeout=1, isolation_level=None, check_same_thread=False
    )


def has_data_version(engine: AsyncEngine) -> bool:
    """Whether another connection sees by ``PRAGMA data_version`` that the engine's database was written to.

    A database in memory has only one connection. Another driver may contain a SQLite of its own, and two of them in
    one process drop each other's locks on a file.
    """
    return is_file(engine.url) and engine.driver == "aiosqlite"


def interrupt(connection: AsyncConnection) -> None:
    """End the statement that a file's connection executes in a thread of aiosqlite's; it fails there.

    Other drivers go on with it. The only connection to a database in memory may execute another one by now.
    """
    used = connection.sync_connection
    if used is not None and has_data_version(connection.engine):
        # Not by its own method: it is a coroutine, which another cancellation could keep from being executed.
        driver: Any = used.connection.driver_connection
        driver._conn.interrupt()


def is_sqlite(engine: AsyncEngine | AsyncConnection | sa.Connection) -> bool:
    """Whether the engine is SQLite."""
    return engine.dialect.name == "sqlite"


def lock_seconds_of(url: sa.URL, options: ConnectionOptions, lock_seconds: float | None) -> float | None:
    """Return how long a lock of a file is waited for: as the options or its URL say, or ``lock_seconds``."""
    given = url.query.get("timeout")
    if options.lock_timeout is None and given is not None:
        return max(0.0, float(str(given)))
    return lock_seconds if options.lock_timeout is None else options.lock_timeout


def busy_seconds(lock_seconds: float | None) -> float:
    """Return how long SQLite waits for a lock, if a store waits no longer than `lock_seconds`."""
    return SQLITE_BUSY_SECONDS if lock_seconds is None else min(SQLITE_BUSY_SECONDS, lock_seconds)


def set_busy_timeout(connection: Any, seconds: float) -> None:
    """Set how long a connection of SQLite's driver, or a cursor of one, waits for a lock from now on."""
    connection.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")


@contextlib.contextmanager
def shorter_busy_timeout(connection: sa.Connection, seconds: float) -> Iterator[None]:
    """Let a connection to SQLite wait no longer than that for a lock inside the block. Does nothing on Postgres."""
    if not is_sqlite(connection):
        yield
        return
    # Not by SQLAlchemy, which would begin a transaction.
    cursor = connection.connection.cursor()
    cursor.execute("PRAGMA busy_timeout")
    ((before,),) = cursor.fetchall()
    set_busy_timeout(cursor, min(seconds, before / 1000))
    try:
        yield
    finally:
        set_busy_timeout(cursor, before / 1000)
        cursor.close()


def _connect_read_only(dialect: Any, record: Any, arguments: list[Any], settings: dict[str, Any]) -> None:
    options = read_only.options(arguments[0])
    if options is not None:
        arguments[0], settings["uri"] = read_only.address(arguments[0], options), True


def _set_up(connection: Any, record: Any, *, lock_seconds: float | None = None) -> None:
    cursor = connection.cursor()
    set_busy_timeout(cursor, busy_seconds(lock_seconds))
    if not read_only.is_read_only(cursor):
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # The URL may open a file for reading only that could be written to.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
                raise
    # FULL: an acknowledged commit survives a power cut. NORMAL loses all since the last checkpoint.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
    cursor.close()
