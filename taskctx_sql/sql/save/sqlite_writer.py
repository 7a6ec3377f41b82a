"""Writing to a SQLite file: one thread, one connection, and one transaction for each group of saves or other plan.

A save costs one hop to the thread and back, and shares its fsync with the others of its group. One that is refused
writes nothing and does not affect the others; where a transaction fails as a whole, each is tried once more, alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from taskctx_sql.concurrency import Promise, on_thread
from taskctx_sql.errors import StoreClosedError, StoreFailedError, TaskContextError
from taskctx_sql.model import Saved
from taskctx_sql.sql import engines
from taskctx_sql.sql.plan import Plan, execute_on_sqlite
from taskctx_sql.sql.retry import InDoubtError, deadline, in_turn, lock_seconds_left
from taskctx_sql.sql.save.appends import appends_of, set_up
from taskctx_sql.sql.save.decide import save_group
from taskctx_sql.sql.save.group_commit import Answers, GroupCommit
from taskctx_sql.sql.save.request import SaveRequest

T = TypeVar("T")

_Answers = Sequence[Saved | BaseException]
_Answer = Callable[[Any], None]
_Work = Callable[[sqlite3.Connection], Any]

# What had to wait no longer than this for its turn waits for a lock as long as the connection is set to.
_SOON: Final = 0.05


class SqliteWriter:
    """The thread that writes. It belongs to one event loop, and starts with the first write."""

    def __init__(self, path: str, database_url: str, lock_seconds: float) -> None:
        self._path = path
        self._database_url = database_url
        self._lock_seconds = lock_seconds
        self._busy_seconds: float = engines.busy_seconds(lock_seconds)
        self._groups: GroupCommit[Saved] = GroupCommit(self._send_group, database_url)
        # One plan at a time is in the queue, so that saves and other writes take turns.
        self._turn = asyncio.Lock()
        self._queue: SimpleQueue[tuple[_Work, _Answer] | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread: threading.Thread | None = None
        self._identity: tuple[int, int] | None = None
        self._closed = False

    def save(self, request: SaveRequest) -> Awaitable[Saved]:
        """Save; the result is there when it is on the disk. See `Backend.save`."""
        return self._groups.save(request)

    async def write(self, plan: Plan[T]) -> T:
        """Execute a plan in one transaction. See `Backend.write`."""
        async with in_turn(self._turn):
            if self._closed:
                raise StoreClosedError(self._database_url)
            answer: Promise[T] = Promise(self._loop)
            self._send(partial(self._write, plan, deadline()), answer.resolve)
            return await answer.wait()

    async def close(self) -> None:
        """Finish what was accepted, and release everything."""
        self._closed = True
        await self._groups.close()
        async with self._turn:
            if self._thread is not None:
                self._queue.put(None)
                await on_thread(self._thread.join)

    def abandon(self) -> None:
        """End without being waited for. Callable from any thread."""
        self._closed = True
        self._groups.stop()
        self._queue.put(None)

    def _send_group(
        self, requests: list[SaveRequest], until: float | None, answer: Callable[[Answers[Saved]], None]
    ) -> None:
        self._send(partial(self._save, requests, until), answer)

    def _send(self, work: _Work, answer: _Answer) -> None:
        if self._thread is None:
            # A daemon, so that a store that was never closed does not keep the interpreter from its exit.
            self._thread = threading.Thread(target=self._work, name="taskctx-writer", daemon=True)
            self._thread.start()
        self._queue.put((work, answer))

    # On the thread.

    def _work(self) -> None:
        connection: sqlite3.Connection | None = None
        while (accepted := self._queue.get()) is not None:
            work, answer = accepted
            result: Any
            try:
                if connection is None:
                    connection = engines.connect_sqlite(self._path, self._lock_seconds)
                    set_up(connection)
                    self._identity = engines.file_identity(self._path)
                result = work(connection)
            except Exception as error:
                result = error
                # A new connection has no transaction open, whatever it was; this thread goes on in any case.
                if connection is not None:
                    with contextlib.suppress(sqlite3.Error):
                        connection.close()
                    connection = None
            # Not by `contextlib.suppress`, which would cost each save half a microsecond.
            try:  # noqa: SIM105
                self._loop.call_soon_threadsafe(answer, result)
            except RuntimeError:
                # The loop is closed, so no caller waits.
                pass
            # So that a large group is freed with its answers, and not when the next save has to be written.
            del accepted, work, answer, result
        if connection is not None:
            connection.close()

    def _save(self, requests: list[SaveRequest], until: float | None, connection: sqlite3.Connection) -> _Answers:
        try:
            return self._append(requests, until, connection) or self._execute(save_group(requests), until, connection)
        except Exception as error:
            if len(requests) == 1 or isinstance(error, InDoubtError | StoreFailedError):
                raise
            # One of them may be the cause; then the others must succeed.
            _roll_back(connection)
            return [self._save_alone(request, until, connection) for request in requests]

    def _append(
        self, requests: list[SaveRequest], until: float | None, connection: sqlite3.Connection
    ) -> Sequence[Saved] | None:
        """Save by one statement; None if it cannot be, and nothing was written."""
        appends = appends_of(requests)
        if appends is None:
            return None
        try:
            self._lock(connection, until, appends.statement, appends.values)
        except sqlite3.IntegrityError:
            # A context is not as memory has seen it, or a row is refused.
            return None
        except sqlite3.OperationalError as error:
            if engines.is_in_doubt_alone(error):
                raise InDoubtError from error
            raise
        self._check_file("save")
        return appends.answers

    def _save_alone(
        self, request: SaveRequest, until: float | None, connection: sqlite3.Connection
    ) -> Saved | BaseException:
        try:
            return self._execute(save_group([request]), until, connection)[0]
        except Exception as error:
            _roll_back(connection)
            return error

    def _execute(self, plan: Plan[T], until: float | None, connection: sqlite3.Connection, doing: str = "save") -> T:
        self._lock(connection, until, "BEGIN IMMEDIATE")
        result = execute_on_sqlite(plan, connection)
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if not engines.is_in_doubt_at_commit(error):
                raise
            raise InDoubtError from error
        self._check_file(doing)
        return result

    def _check_file(self, doing: str) -> None:
        if engines.file_identity(self._path) != self._identity:
            # It was written to a file that has no name any more, or another one.
            reason = "the file was removed or replaced while the store was open: put it back, or open the store again"
            raise StoreFailedError(doing, self._database_url, reason, outcome_unknown=True)

    def _write(self, plan: Plan[T], until: float | None, connection: sqlite3.Connection) -> T | TaskContextError:
        try:
            return self._execute(plan, until, connection, "write")
        except TaskContextError as error:
            if not connection.in_transaction:
                raise
            # The plan's own: it found that this cannot be done.
            connection.execute("ROLLBACK")
            return error

    def _lock(
        self, connection: sqlite3.Connection, until: float | None, statement: str, values: Sequence[Any] = ()
    ) -> None:
        """Execute the statement that takes the write lock."""
        most = self._busy_seconds
        left = lock_seconds_left(until, most)
        if left > most - _SOON:
            connection.execute(statement, values)
            return
        engines.set_busy_timeout(connection, left)
        try:
            connection.execute(statement, values)
        finally:
            engines.set_busy_timeout(connection, most)


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")
