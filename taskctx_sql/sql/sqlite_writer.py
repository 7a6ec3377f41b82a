"""Saves to a SQLite file: one thread, one connection, and one transaction for all saves that arrive together.

A save costs one hop to the thread and back, and shares its fsync with the others that wait. It stays its own: each
has a savepoint, so one that fails takes no other with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final

from taskctx_sql.errors import StoreClosedError
from taskctx_sql.records import Delta, Saved
from taskctx_sql.sql import dialect, saving
from taskctx_sql.sql.retrying import InDoubtError
from taskctx_sql.sql.rows import Encoded
from taskctx_sql.sql.steps import carry_out_on_sqlite

# How many saves may wait for the thread; more wait for room, so that memory stays bounded.
MAX_WAITING: Final = 1_000
# How many share a transaction. Past a few dozen the fsync is paid for; another process wants its turn.
MAX_TOGETHER: Final = 100


@dataclass(frozen=True, slots=True)
class _Job:
    delta: Delta
    encoded: Encoded
    strict: bool
    answer: asyncio.Future[Saved]


class SqliteWriter:
    """The thread that saves. It belongs to one event loop, and starts with the first save.

    Args:
        path: The database file.
        address: What to call it in errors.
    """

    def __init__(self, path: str, address: str) -> None:
        """Take the file; nothing is opened yet."""
        self._path = path
        self._address = address
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(MAX_WAITING)
        self._thread: threading.Thread | None = None
        self._closed = False

    async def save(self, delta: Delta, encoded: Encoded, *, strict: bool) -> Saved:
        """Save, together with whatever else is waiting; return when it is on the disk.

        Raises:
            InDoubtError: COMMIT failed in a way that leaves open if it happened.
            sqlite3.Error: SQLite failed; nothing of this save was written.
            TaskContextError: As `saving.save`.
        """
        async with self._room:
            if self._closed:
                raise StoreClosedError(self._address)
            if self._thread is None:
                # A daemon, so that a store that nobody closed does not keep the interpreter from its exit.
                self._thread = threading.Thread(target=self._work, name="taskctx-writer", daemon=True)
                self._thread.start()
            answer: asyncio.Future[Saved] = self._loop.create_future()
            self._queue.put(_Job(delta, encoded, strict, answer))
            return await answer

    async def close(self) -> None:
        """Finish what was accepted, and end the thread."""
        self._closed = True
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)

    def abandon(self) -> None:
        """Let the thread end by itself when it is done: for a store that nobody closed. Callable from anywhere."""
        self._closed = True
        self._queue.put(None)

    # On the thread.

    def _work(self) -> None:
        connection: sqlite3.Connection | None = None
        going_on = True
        while going_on:
            jobs, going_on = self._next_jobs()
            if not jobs:
                continue
            answers: list[Saved | BaseException]
            try:
                if connection is None:
                    connection = dialect.connect_sqlite(self._path)
                answers = self._commit_together(connection, jobs)
            except Exception as error:
                answers = [error] * len(jobs)
                # Whatever it was, a new connection is in no half-done state; this thread goes on in any case.
                if connection is not None:
                    with contextlib.suppress(sqlite3.Error):
                        connection.close()
                    connection = None
            # A loop that is closed has nobody waiting.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_deliver, jobs, answers)
        if connection is not None:
            connection.close()

    def _next_jobs(self) -> tuple[list[_Job], bool]:
        """Wait for a job, and take what waits behind it; the second value says if there may be more."""
        job = self._queue.get()
        jobs: list[_Job] = []
        while job is not None:
            jobs.append(job)
            if len(jobs) == MAX_TOGETHER:
                return jobs, True
            try:
                job = self._queue.get_nowait()
            except Empty:
                return jobs, True
        return jobs, False

    def _commit_together(self, connection: sqlite3.Connection, jobs: list[_Job]) -> list[Saved | BaseException]:
        connection.execute("BEGIN IMMEDIATE")
        answers: list[Saved | BaseException] = []
        for job in jobs:
            connection.execute("SAVEPOINT one_save")
            try:
                answers.append(self._save_one(connection, job))
            except Exception as error:
                if not connection.in_transaction:
                    # SQLite gave the whole transaction up: nothing of any of them is there.
                    raise
                connection.execute("ROLLBACK TO one_save")
                answers.append(error)
            connection.execute("RELEASE one_save")
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if not dialect.is_in_doubt_at_commit(error):
                raise
            raise InDoubtError from error
        return answers

    def _save_one(self, connection: sqlite3.Connection, job: _Job) -> Saved:
        try:
            return carry_out_on_sqlite(saving.save("sqlite", job.delta, job.encoded, strict=job.strict), connection)
        except saving.WrittenBeforeError:
            connection.execute("ROLLBACK TO one_save")
            return carry_out_on_sqlite(saving.answer_again(job.delta, job.encoded), connection)


def _deliver(jobs: list[_Job], answers: list[Saved | BaseException]) -> None:
    for job, answer in zip(jobs, answers, strict=True):
        if job.answer.done():
            continue
        if isinstance(answer, BaseException):
            job.answer.set_exception(answer)
        else:
            job.answer.set_result(answer)
