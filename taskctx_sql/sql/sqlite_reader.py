"""Reads from a SQLite file: a whole load in one hop to a thread and back."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Final, TypeVar

from taskctx_sql.sql import dialect
from taskctx_sql.sql.steps import Steps, carry_out_on_sqlite
from taskctx_sql.store import until_done

T = TypeVar("T")

# More would share the interpreter's one lock.
CONNECTIONS: Final = 4


class SqliteReader:
    """A few connections that read, each in the hands of one thread at a time.

    Args:
        path: The database file.
    """

    def __init__(self, path: str) -> None:
        """Take the file; nothing is opened yet."""
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._turn = asyncio.Semaphore(CONNECTIONS)

    async def read(self, steps: Steps[T]) -> T:
        """Carry out steps that only read, in a transaction, and return what they return.

        Raises:
            sqlite3.Error: SQLite failed.
            TaskContextError: What the steps raise.
        """
        async with self._turn:
            idle = self._idle.pop() if self._idle else None
            reading = asyncio.get_running_loop().run_in_executor(None, self._read, steps, idle)
            try:
                await asyncio.shield(reading)
            finally:
                # The thread has the connection until it is done, whoever was cancelled.
                await until_done(reading)
                if reading.exception() is None:
                    self._idle.append(reading.result()[1])
            return reading.result()[0]

    async def close(self) -> None:
        """Close the connections, when those in use are back."""
        for _ in range(CONNECTIONS):
            await self._turn.acquire()
        while self._idle:
            self._idle.pop().close()

    def _read(self, steps: Steps[T], connection: sqlite3.Connection | None) -> tuple[T, sqlite3.Connection]:
        connection = connection or dialect.connect_sqlite(self._path)
        try:
            connection.execute("BEGIN")
            result = carry_out_on_sqlite(steps, connection)
            connection.execute("COMMIT")
        except BaseException:
            # Not used again: it may be in any state.
            connection.close()
            raise
        return result, connection
