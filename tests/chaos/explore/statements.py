"""What goes to a database or a folder, seen on its way: SQLite's own driver, asyncpg, SQLAlchemy, and the file system.

Whoever listens may let a statement fail. The drivers' own errors are raised, and the connection is left as such a
failure leaves it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy import event


class Fault(Enum):
    """How a statement fails."""

    PASSING = "it fails in a way that passes"
    FINAL = "it fails in a way that does not pass"
    NOT_DONE = "COMMIT fails, and was not done"
    DONE = "COMMIT fails, and was done"
    LATER = "COMMIT fails, and is done later"


# How much later.
LATER_SECONDS = 0.15

# Asked before each statement, with its text and whether it makes something durable; on any thread.
Listener = Callable[[str, bool], Fault | None]


class Watch:
    """Who is asked, and which connections were opened."""

    def __init__(self) -> None:
        self.listener: Listener | None = None
        self.sqlite: weakref.WeakSet[sqlite3.Connection] = weakref.WeakSet()
        self.postgres: weakref.WeakSet[Any] = weakref.WeakSet()
        self.folder = ""
        self.late: list[asyncio.Task[None]] = []

    def ask(self, text: str, commits: bool = False) -> Fault | None:
        return self.listener(text, commits) if self.listener is not None else None

    def open_connections(self) -> int:
        return sum(map(_is_open, list(self.sqlite))) + sum(not one.is_closed() for one in list(self.postgres))


WATCH = Watch()


def _is_open(connection: sqlite3.Connection) -> bool:
    try:
        return connection.total_changes >= 0
    except sqlite3.ProgrammingError:
        return False


def _sqlite_error(code: int, text: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


class _Cursor(sqlite3.Cursor):
    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        self.connection.before(sql, lambda: super(_Cursor, self).execute(sql, parameters))  # type: ignore[attr-defined]
        return super().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> Any:
        self.connection.before(sql, lambda: None)  # type: ignore[attr-defined]
        return super().executemany(sql, parameters)


class _Connection(sqlite3.Connection):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        WATCH.sqlite.add(self)

    def cursor(self, factory: Any = _Cursor) -> Any:
        return super().cursor(factory)

    def commit(self) -> None:
        if self.in_transaction:
            self.before("COMMIT", super().commit)
        super().commit()

    def before(self, sql: str, do: Callable[[], object]) -> None:
        # Saves that only append are one statement without a COMMIT.
        commits = sql.startswith(("COMMIT", "INSERT INTO taskctx_appends"))
        fault = None if sql.startswith(("PRAGMA", "ROLLBACK")) else WATCH.ask(sql, commits)
        if fault is Fault.PASSING:
            raise _sqlite_error(sqlite3.SQLITE_BUSY, "database is locked")
        if fault is Fault.FINAL:
            raise _sqlite_error(sqlite3.SQLITE_FULL, "database or disk is full")
        if fault is not None:
            # A file is written now or never: SQLite has no COMMIT that is done later.
            if fault is Fault.NOT_DONE:
                super().rollback()
            else:
                do()
            raise _sqlite_error(sqlite3.SQLITE_IOERR, "disk I/O error")


RAISE = "DO $$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '{}'; END $$"
STATES = {Fault.PASSING: "40001", Fault.FINAL: "23514"}


def is_written_by(text: str) -> bool:
    """Whether a statement is durable as soon as it is done, where there is no transaction."""
    return "INSERT INTO" in text or "taskctx_save" in text


class _PostgresConnection(asyncpg.Connection):
    _held = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        WATCH.postgres.add(self)

    async def execute(self, query: str, *args: Any, **options: Any) -> Any:
        return await self._asked(query, super().execute, query, *args, **options)

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        return await self._asked(query, super().fetch, query, *args, **options)

    async def executemany(self, command: str, args: Any, **options: Any) -> Any:
        return await self._asked(command, super().executemany, command, args, **options)

    async def copy_records_to_table(self, table_name: str, **options: Any) -> Any:
        return await self._asked(f"COPY {table_name}", super().copy_records_to_table, table_name, **options)

    async def _asked(self, text: str, work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if text.startswith(("ROLLBACK", "SET", "LISTEN", "UNLISTEN")) or text == ";":
            return await work(*args, **options)
        alone = not self.is_in_transaction() and is_written_by(text)
        fault = WATCH.ask(text, text.startswith("COMMIT") or alone)
        # A BEGIN fails with the connection alone.
        if fault in STATES and not text.startswith("BEGIN"):
            try:
                return await super().execute(RAISE.format(STATES[fault]))
            finally:
                # A COMMIT that fails ends its transaction.
                if text.startswith("COMMIT"):
                    await super().execute("ROLLBACK")
        if fault is Fault.DONE:
            await work(*args, **options)
        if fault is Fault.LATER and alone:
            # It is on its way, and there is no transaction that could be kept open.
            await work(*args, **options)
        elif fault is Fault.LATER:
            self._held = True
            WATCH.late.append(asyncio.create_task(self._later(work, *args, **options)))
        if fault is not None:
            self.terminate()
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        return await work(*args, **options)

    async def _later(self, work: Callable[..., Any], *args: Any, **options: Any) -> None:
        try:
            await asyncio.sleep(LATER_SECONDS)
            await work(*args, **options)
        finally:
            self._held = False
            super().terminate()

    # Until it is done, the client has lost the connection, and the server has not noticed.

    def is_closed(self) -> bool:
        return self._held or super().is_closed()

    def terminate(self) -> None:
        if not self._held:
            super().terminate()

    async def close(self, **options: Any) -> None:
        if not self._held:
            await super().close(**options)


def _before_cursor_execute(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
    # What goes through asyncpg's prepared statements is seen here alone.
    if connection.dialect.driver != "asyncpg":
        return
    fault = WATCH.ask(statement)
    if fault is Fault.PASSING:
        raise asyncpg.SerializationError("on purpose")
    if fault is not None:
        raise asyncpg.CheckViolationError("on purpose")


@contextmanager
def watched() -> Iterator[Watch]:
    """Have everything told to the listener of the watch that is yielded."""
    real = (sqlite3.connect, asyncpg.connect, os.replace, os.fsync, os.open)
    connect_sqlite, connect_postgres, replace, fsync, open_file = real

    def sqlite_connect(*args: Any, **options: Any) -> Any:
        return connect_sqlite(*args, **{"factory": _Connection, **options})

    async def postgres_connect(*args: Any, **options: Any) -> Any:
        if WATCH.ask("connect") is not None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "on purpose")
        return await connect_postgres(*args, **{"connection_class": _PostgresConnection, **options})

    def watched_replace(source: Any, target: Any, **options: Any) -> None:
        fault = WATCH.ask("replace", True) if _is_ours(target) else None
        if fault in (Fault.DONE, Fault.LATER):
            replace(source, target, **options)
        if fault is not None:
            raise OSError(errno.EIO, os.strerror(errno.EIO), os.fspath(target))
        replace(source, target, **options)

    def watched_fsync(descriptor: Any) -> None:
        if WATCH.folder and WATCH.ask("fsync") is not None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    def watched_open(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if _is_ours(path) and flags & os.O_CREAT and WATCH.ask("open") is not None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
        return open_file(path, flags, *args, **options)

    event.listen(sa.Engine, "before_cursor_execute", _before_cursor_execute)
    sqlite3.connect, asyncpg.connect = sqlite_connect, postgres_connect
    os.replace, os.fsync, os.open = watched_replace, watched_fsync, watched_open  # type: ignore[assignment]
    try:
        yield WATCH
    finally:
        sqlite3.connect, asyncpg.connect, os.replace, os.fsync, os.open = real
        event.remove(sa.Engine, "before_cursor_execute", _before_cursor_execute)
        WATCH.listener = None


def _is_ours(path: Any) -> bool:
    return bool(WATCH.folder) and isinstance(path, str | os.PathLike) and os.fspath(path).startswith(WATCH.folder)
