"""Reading from a SQLite file: a whole plan with a single switch to a thread and back."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
from queue import SimpleQueue
from typing import Any, Final, TypeVar

from taskctx_sql.concurrency import Promise, on_thread
from taskctx_sql.sql import engines
from taskctx_sql.sql.engines import read_only
from taskctx_sql.sql.plan import Plan, execute_on_sqlite
from taskctx_sql.sql.retry import deadline, lock_seconds_left

T = TypeVar("T")

# With one, a load of 5 updates that came after a load of 30,000 took 650 ms instead of 2 or 3, and 200 loads of 5 took
# 140 ms; with two these took 77 ms, with four 40 to 120. More would only compete for the interpreter's lock.
THREADS: Final = 4
# In seconds. A smaller change of the time left to wait for locks is not worth a PRAGMA.
_SOON: Final = 0.05


class SqliteReader:
    """A few threads for reading a file, each with its own connection. They belong to one event loop.

    ``lock_seconds`` says how long to wait for a lock.
    """

    def __init__(self, path: str, lock_seconds: float | None = None) -> None:
        self._path = path
        self._lock_seconds = lock_seconds
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[tuple[Plan[Any], Promise[Any], float | None] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._under_way = 0

    async def read(self, plan: Plan[T]) -> T:
        """Execute a plan that only reads, in one transaction. A cancelled call ends at once."""
        self._under_way += 1
        try:
            if len(self._threads) < min(self._under_way, THREADS):
                # A daemon, so that a store that was not closed does not keep the interpreter from exiting.
                self._threads.append(threading.Thread(target=self._work, name="taskctx-reader", daemon=True))
                self._threads[-1].start()
            answer: Promise[T] = Promise(self._loop)
            self._queue.put((plan, answer, deadline()))
            # When this is cancelled, the thread finishes the plan and its result is dropped.
            return await answer.wait(shield=False)
        finally:
            self._under_way -= 1

    async def close(self) -> None:
        """Release everything once the reads under way are done."""
        self.abandon()
        for thread in self._threads:
            await on_thread(thread.join)

    def abandon(self) -> None:
        """Stop the threads without waiting for them. Callable from any thread."""
        for _ in self._threads:
            self._queue.put(None)

    def _work(self) -> None:
        connection: sqlite3.Connection | None = None
        identity: tuple[int, int] | None = None
        unchanging: read_only.State | None = None
        # The longest time to wait for a lock, and the connection's current setting.
        longest = waits = engines.busy_seconds(self._lock_seconds)
        while (request := self._queue.get()) is not None:
            plan, answer, until = request
            try:
                now = engines.file_identity(self._path)
                changed = unchanging is not None and unchanging != read_only.state(self._path)
                if connection is not None and (changed or now != identity):
                    # The file was replaced or removed.
                    connection.close()
                    connection = None
                if connection is None:
                    # Before it is opened, so that the next read notices what is written meanwhile.
                    unchanging = read_only.state(self._path)
                    waits = lock_seconds_left(until, longest)
                    connection, identity = engines.connect_sqlite(self._path, waits), now
                left = lock_seconds_left(until, longest)
                if left < waits - _SOON or left > waits + _SOON:
                    engines.set_busy_timeout(connection, left)
                    waits = left
                connection.execute("BEGIN")
                result = execute_on_sqlite(plan, connection)
                connection.execute("COMMIT")
            except BaseException as error:
                result = error
                if connection is not None:
                    # It may be in any state, so it is not used again.
                    connection.close()
                    connection = None
            # A closed loop has nobody waiting.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(answer.resolve, result)
            del request, plan, answer, result
        if connection is not None:
            connection.close()
