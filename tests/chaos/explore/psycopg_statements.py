"""What goes to Postgres by psycopg 3, seen on its way, as `statements` sees what goes by asyncpg."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from tests.chaos.explore.statements import LATER_SECONDS, RAISE, STATES, WATCH, Fault, is_written_by

LOST = "the connection is lost, on purpose"


class _Cursor(psycopg.AsyncCursor[Any]):
    async def execute(self, query: Any, params: Any = None, **options: Any) -> Any:
        work = super().execute
        return await self.connection.asked(  # type: ignore[attr-defined]
            _text(query), lambda: work(query, params, **options)
        )

    async def executemany(self, query: Any, params_seq: Any, **options: Any) -> None:
        work = super().executemany
        await self.connection.asked(  # type: ignore[attr-defined]
            _text(query), lambda: work(query, params_seq, **options)
        )


class _Connection(psycopg.AsyncConnection[Any]):
    _held = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.cursor_factory = _Cursor
        WATCH.postgres.add(self)

    async def commit(self) -> None:
        if self.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS:
            await self.asked("COMMIT", super().commit)
        elif not self._held:
            await super().commit()

    async def asked(self, text: str, work: Callable[[], Any]) -> Any:
        if text.startswith(("ROLLBACK", "SET", "LISTEN", "UNLISTEN")):
            return await work()
        is_open = self.info.transaction_status != psycopg.pq.TransactionStatus.IDLE
        alone = self.autocommit and not is_open and is_written_by(text)
        fault = WATCH.ask(text, text == "COMMIT" or alone)
        if fault in STATES and not text.startswith("BEGIN"):
            try:
                await psycopg.AsyncCursor(self).execute(RAISE.format(STATES[fault]))
            finally:
                # A COMMIT that fails ends its transaction.
                if text == "COMMIT":
                    await super().rollback()
        if fault is Fault.DONE:
            await work()
        if fault is Fault.LATER:
            self._held = True
            WATCH.late.append(asyncio.create_task(self._later(work)))
        if fault is not None:
            await self.close()
            raise psycopg.OperationalError(LOST)
        return await work()

    async def _later(self, work: Callable[[], Any]) -> None:
        try:
            await asyncio.sleep(LATER_SECONDS)
            await work()
        finally:
            self._held = False
            await super().close()

    # Until it is done, the client has lost the connection, and the server has not noticed.

    def is_closed(self) -> bool:
        return self.closed

    @property
    def closed(self) -> bool:
        return self._held or super().closed

    async def rollback(self) -> None:
        if self._held:
            raise psycopg.OperationalError(LOST)
        await super().rollback()

    async def close(self) -> None:
        if not self._held:
            await super().close()


def _text(query: Any) -> str:
    return query.decode() if isinstance(query, bytes) else str(query)


@contextmanager
def psycopg_watched() -> Iterator[None]:
    """Have all that goes by psycopg told to the watch."""
    real = psycopg.AsyncConnection.__dict__["connect"]

    async def connect(*args: Any, **options: Any) -> Any:
        if WATCH.ask("connect") is not None:
            raise psycopg.OperationalError("refused, on purpose")
        return await real.__get__(None, _Connection)(*args, **options)

    psycopg.AsyncConnection.connect = staticmethod(connect)  # type: ignore[method-assign]
    try:
        yield
    finally:
        psycopg.AsyncConnection.connect = real  # type: ignore[method-assign]
