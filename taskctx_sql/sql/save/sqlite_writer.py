"""Saves to a SQLite file: one thread, one connection, and one transaction for all saves that arrive together.

A save costs one hop to the thread and back, and shares its fsync with the others that wait. It stays its own: one
that is refused writes nothing, and where a transaction fails as a whole each is tried once more, alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections import deque
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Final

from taskctx_sql.concurrency import on_thread
from taskctx_sql.errors import StoreClosedError, StoreFailedError
from taskctx_sql.model import Saved
from taskctx_sql.sql import engines
from taskctx_sql.sql.plan import execute_on_sqlite
from taskctx_sql.sql.retry import InDoubtError, lock_seconds_left
from taskctx_sql.sql.save.grouping import MAX_WAITING, WaitingSave, take_group
from taskctx_sql.sql.save.request import SaveRequest
from taskctx_sql.sql.save.statements import save_group

_Pending = WaitingSave[Saved]

# A save that had to wait no longer than this for its turn need not be told how long to wait for a lock.
_SOON: Final = 0.05


class SqliteWriter:
    """The thread that saves. It belongs to one event loop, and starts with the first save.

    Args:
        path: The database file.
        address: What to call it in errors.
        lock_seconds: How long to wait for a lock.
    """

    def __init__(self, path: str, address: str, lock_seconds: float | None = None) -> None:
        """Take the file; nothing is opened yet."""
        self._path = path
        self._address = address
        self._lock_seconds = lock_seconds
        self._queue: SimpleQueue[_Pending | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(MAX_WAITING)
        self._thread: threading.Thread | None = None
        self._told_later: tuple[list[_Pending], Sequence[Saved | BaseException]] | None = None
        self._identity: tuple[int, int] | None = None
        self._closed = False

    async def save(self, request: SaveRequest) -> Saved:
        """Save; the result is there when it is on the disk. See `Backend.save`."""
        async with self._room:
            if self._closed:
                raise StoreClosedError(self._address)
            if self._thread is None:
                # A daemon, so that a store that nobody closed does not keep the interpreter from its exit.
                self._thread = threading.Thread(target=self._work, name="taskctx-writer", daemon=True)
                self._thread.start()
            pending: _Pending = WaitingSave(request, self._loop)
            self._queue.put(pending)
            return await pending.wait()

    async def close(self) -> None:
        """Finish what was accepted, and release everything."""
        self._closed = True
        if self._thread is not None:
            self._queue.put(None)
            await on_thread(self._thread.join)

    def abandon(self) -> None:
        """End without being waited for. Callable from any thread."""
        self._closed = True
        self._queue.put(None)

    # On the thread.

    def _work(self) -> None:
        connection: sqlite3.Connection | None = None
        waiting: deque[_Pending] = deque()
        while self._receive(waiting):
            group = take_group(waiting)
            answers: Sequence[Saved | BaseException]
            try:
                if connection is None:
                    connection = engines.connect_sqlite(self._path, self._lock_seconds)
                    self._identity = engines.file_identity(self._path)
                answers = self._save(connection, group)
            except Exception as error:
                answers = [error] * len(group)
                # Whatever it was, a new connection is in no half-done state; this thread goes on in any case.
                if connection is not None:
                    with contextlib.suppress(sqlite3.Error):
                        connection.close()
                    connection = None
            self._tell()
            self._told_later = (group, answers)
        self._tell()
        if connection is not None:
            connection.close()

    def _tell(self) -> None:
        """Give the answers to the group before."""
        if self._told_later is not None:
            # A loop that is closed has nobody waiting.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_deliver, *self._told_later)
            self._told_later = None

    def _receive(self, waiting: deque[_Pending]) -> bool:
        """Take all that arrived, or wait for it if there is nothing to do; return False at the end."""
        while True:
            try:
                pending = self._queue.get_nowait()
            except Empty:
                if waiting:
                    return True
                self._tell()
                pending = self._queue.get()
            if pending is None:
                # Put back, to be found again when what still waits is done.
                self._queue.put(None)
                return bool(waiting)
            waiting.append(pending)

    def _save(self, connection: sqlite3.Connection, group: list[_Pending]) -> Sequence[Saved | BaseException]:
        self._begin(connection, group)
        try:
            return self._commit(connection, group)
        except Exception as error:
            if len(group) == 1 or isinstance(error, InDoubtError | StoreFailedError):
                raise
            # One of them may be to blame, and it is to fail alone.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return [self._save_alone(connection, pending) for pending in group]

    def _save_alone(self, connection: sqlite3.Connection, pending: _Pending) -> Saved | BaseException:
        try:
            self._begin(connection, [pending])
            return self._commit(connection, [pending])[0]
        except Exception as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return error

    def _begin(self, connection: sqlite3.Connection, group: list[_Pending]) -> None:
        """Take the write lock. Before it is waited for, the group before gets its answers: it is on the disk."""
        if self._told_later is not None:
            try:
                self._begin_within(connection, 0.0)
                return
            except sqlite3.OperationalError as error:
                if (error.sqlite_errorcode & 0xFF) != sqlite3.SQLITE_BUSY:
                    raise
            self._tell()
        until = min((pending.deadline for pending in group if pending.deadline is not None), default=None)
        most = engines.busy_seconds(self._lock_seconds)
        left = lock_seconds_left(until, most)
        if left > most - _SOON:
            connection.execute("BEGIN IMMEDIATE")
        else:
            self._begin_within(connection, left)

    def _begin_within(self, connection: sqlite3.Connection, seconds: float) -> None:
        engines.set_busy_timeout(connection, seconds)
        try:
            connection.execute("BEGIN IMMEDIATE")
        finally:
            engines.set_busy_timeout(connection, engines.busy_seconds(self._lock_seconds))

    def _commit(self, connection: sqlite3.Connection, group: list[_Pending]) -> Sequence[Saved | BaseException]:
        answers = execute_on_sqlite(save_group("sqlite", [pending.request for pending in group]), connection)
        # Only now: the loop prepares its next saves while this thread waits for the disk. Sooner, and both would
        # fight for the interpreter's lock, and the disk would wait for both.
        self._tell()
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if not engines.is_in_doubt_at_commit(error):
                raise
            raise InDoubtError from error
        if engines.file_identity(self._path) != self._identity:
            # It was written to a file that nobody finds any more.
            reason = "the file was removed or replaced while the store was open: put it back, or open the store again"
            raise StoreFailedError("save", self._address, reason, outcome_unknown=True)
        return answers


def _deliver(group: list[_Pending], answers: Sequence[Saved | BaseException]) -> None:
    for pending, answer in zip(group, answers, strict=True):
        pending.give(answer)
