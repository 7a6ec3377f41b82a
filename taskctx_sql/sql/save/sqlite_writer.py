"""Saves to a SQLite file: one thread, one connection, and one transaction for each group of saves.

A save costs one hop to the thread and back, and shares its fsync with the others of its group. One that is refused
writes nothing and does not affect the others; where a transaction fails as a whole, each is tried once more, alone.
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
from taskctx_sql.sql.save.decide import save_group
from taskctx_sql.sql.save.group_commit import MAX_WAITING, WaitingSave, take_group
from taskctx_sql.sql.save.request import SaveRequest

_Save = WaitingSave[Saved]

# A group that had to wait no longer than this for its turn waits for a lock as long as the connection is set to.
_SOON: Final = 0.05


class SqliteWriter:
    """The thread that saves. It belongs to one event loop, and starts with the first save."""

    def __init__(self, path: str, database_url: str, lock_seconds: float) -> None:
        self._path = path
        self._database_url = database_url
        self._lock_seconds = lock_seconds
        self._queue: SimpleQueue[_Save | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(MAX_WAITING)
        self._thread: threading.Thread | None = None
        # The group that was written last, until its answers are delivered.
        self._written: tuple[list[_Save], Sequence[Saved | BaseException]] | None = None
        self._identity: tuple[int, int] | None = None
        self._closed = False

    async def save(self, request: SaveRequest) -> Saved:
        """Save; the result is there when it is on the disk. See `Backend.save`."""
        async with self._room:
            if self._closed:
                raise StoreClosedError(self._database_url)
            if self._thread is None:
                # A daemon, so that a store that was never closed does not keep the interpreter from its exit.
                self._thread = threading.Thread(target=self._work, name="taskctx-writer", daemon=True)
                self._thread.start()
            save: _Save = WaitingSave(request, self._loop)
            self._queue.put(save)
            return await save.wait()

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
        waiting: deque[_Save] = deque()
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
                # A new connection has no transaction open, whatever it was; this thread goes on in any case.
                if connection is not None:
                    with contextlib.suppress(sqlite3.Error):
                        connection.close()
                    connection = None
            self._deliver()
            self._written = (group, answers)
            # So that a large group is freed with its answers, and not when the next save has to be written.
            del group, answers
        self._deliver()
        if connection is not None:
            connection.close()

    def _deliver(self) -> None:
        """Deliver the answers of the group that was written last."""
        if self._written is not None:
            # If the loop is closed, no caller waits.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_give, *self._written)
            self._written = None

    def _receive(self, waiting: deque[_Save]) -> bool:
        """Take all saves that have arrived, or wait for one if there is none; return False at the end."""
        while True:
            try:
                save = self._queue.get_nowait()
            except Empty:
                if waiting:
                    return True
                self._deliver()
                save = self._queue.get()
            if save is None:
                # Put back, and read again when what still waits is done.
                self._queue.put(None)
                return bool(waiting)
            waiting.append(save)

    def _save(self, connection: sqlite3.Connection, group: list[_Save]) -> Sequence[Saved | BaseException]:
        self._begin(connection, group)
        try:
            return self._commit(connection, group)
        except Exception as error:
            if len(group) == 1 or isinstance(error, InDoubtError | StoreFailedError):
                raise
            # One of them may be the cause; then the others must succeed.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return [self._save_alone(connection, save) for save in group]

    def _save_alone(self, connection: sqlite3.Connection, save: _Save) -> Saved | BaseException:
        try:
            return self._save(connection, [save])[0]
        except Exception as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            return error

    def _begin(self, connection: sqlite3.Connection, group: list[_Save]) -> None:
        """Take the write lock. If that has to wait, the answers of the previous group are delivered first."""
        if self._written is not None:
            try:
                self._begin_within(connection, 0.0)
                return
            except sqlite3.OperationalError as error:
                if (error.sqlite_errorcode & 0xFF) != sqlite3.SQLITE_BUSY:
                    raise
            self._deliver()
        until = min((save.deadline for save in group if save.deadline is not None), default=None)
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

    def _commit(self, connection: sqlite3.Connection, group: list[_Save]) -> Sequence[Saved | BaseException]:
        answers = execute_on_sqlite(save_group("sqlite", [save.request for save in group]), connection)
        # Only now, so that the loop prepares its next saves while this thread waits for the disk. Sooner, both would
        # compete for the interpreter's lock, and the disk would wait.
        self._deliver()
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if not engines.is_in_doubt_at_commit(error):
                raise
            raise InDoubtError from error
        if engines.file_identity(self._path) != self._identity:
            # It was written to a file that has no name any more, or another one.
            reason = "the file was removed or replaced while the store was open: put it back, or open the store again"
            raise StoreFailedError("save", self._database_url, reason, outcome_unknown=True)
        return answers


def _give(group: list[_Save], answers: Sequence[Saved | BaseException]) -> None:
    for save, answer in zip(group, answers, strict=True):
        save.resolve(answer)
