"""What a store opens at an address: an engine, and the short ways on it. Stores of one loop that open alike share it.

A program that opens a context by its address for each request has a hundred stores at a time, and not a hundred times
the files, connections and threads of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Hashable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql.sql import engines
from taskctx_sql.sql.engines import dispose, read_only
from taskctx_sql.sql.load import Reader, SqliteReader
from taskctx_sql.sql.plan import Plan
from taskctx_sql.sql.save import SqliteWriter, Writer

# What is open, by process, loop, address and options. All of it is touched on the loop alone.
_open: Final[dict[Hashable, _Opened]] = {}


class _Opened:
    """An engine of ours with the short ways on it, open until the last share in it is given up.

    On an engine of ours it is known what a connection is set to, so saves and loads can take the short ways.
    """

    def __init__(
        self, engine: AsyncEngine, key: Hashable, *, schema: str | None, retry_seconds: float, transaction_pooling: bool
    ) -> None:
        self.engine = engine
        self.writer: Writer | None = None
        self.reader: Reader | None = None
        # Any steps past SQLAlchemy's layers.
        self.write: Callable[[Plan[Any], str | None], Awaitable[Any]] | None = None
        address = engines.mask(str(engine.url))
        if engines.is_plain_file(engine.url):
            path = str(engine.url.database)
            self.writer, self.reader = SqliteWriter(path, address, retry_seconds), SqliteReader(path, retry_seconds)
        elif not engines.is_sqlite(engine) and schema is None and not transaction_pooling:
            # Here, since the driver need not be installed.
            from taskctx_sql.sql.load.postgres_reader import PostgresReader
            from taskctx_sql.sql.save.postgres_writer import PostgresWriter

            writer = PostgresWriter(engine, address)
            self.writer, self.reader, self.write = writer, PostgresReader(engine), writer.write
        self._key = key
        self._shares: set[Share] = set()
        self._is_over = False

    def join(self, share: Share) -> bool:
        """Take one in; return False if the last one has left."""
        # In this order: a store that is collected between the two gives up its share.
        self._shares.add(share)
        return not self._is_over

    def leave(self, share: Share) -> bool:
        """Let one go, once; return whether it was the last."""
        if share not in self._shares:
            return False
        self._shares.discard(share)
        if self._shares:
            return False
        self._is_over = True
        if _open.get(self._key) is self:
            del _open[self._key]
        return True

    async def close(self) -> None:
        """Give everything back."""
        # The last is closed first, and one that fails keeps no other open.
        async with AsyncExitStack() as parts:
            parts.push_async_callback(dispose, self.engine)
            for part in (self.reader, self.writer):
                if part is not None:
                    parts.push_async_callback(part.close)

    def abandon(self) -> None:
        """Let it end by itself."""
        for worker in (self.writer, self.reader):
            if worker is not None:
                worker.abandon()


class Share:
    """One store's part in what is open."""

    def __init__(self, opened: _Opened) -> None:
        """Take what is open; `share` and `own` make one."""
        self._opened = opened
        self._home = (os.getpid(), asyncio.get_running_loop())
        self.engine, self.writer, self.reader, self.write = opened.engine, opened.writer, opened.reader, opened.write

    async def close(self) -> None:
        """Give it up; the last one gives everything back."""
        if self._opened.leave(self):
            await self._opened.close()

    def abandon(self) -> None:
        """Give it up without waiting: for a store that nobody closed. Callable from anywhere."""
        process, loop = self._home
        if process != os.getpid():
            # Of the parent; its threads are not here.
            return
        try:
            is_here = asyncio.get_running_loop() is loop
        except RuntimeError:
            is_here = False
        if not is_here:
            # One that is closed has nobody who shares.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._abandon)
                return
        self._abandon()

    def _abandon(self) -> None:
        if self._opened.leave(self):
            self._opened.abandon()


def own(engine: AsyncEngine, **ways: Any) -> Share:
    """Return a share in an engine of ours that nobody else has."""
    opened = _Opened(engine, None, **ways)
    mine = Share(opened)
    opened.join(mine)
    return mine


def share(
    url: sa.URL, *, others: Hashable, schema: str | None, retry_seconds: float, transaction_pooling: bool
) -> Share:
    """Return a share in what is open at an address, in this process and loop, with these options.

    Nothing else runs meanwhile, so those who open at once share, too.

    Args:
        url: Where. A database in memory is each store's own.
        others: Options that the caller looks at; stores that differ in them do not share.
        schema: As of `open_store`.
        retry_seconds: As of `open_store`.
        transaction_pooling: As of `open_store`.

    Raises:
        MissingDriverError: Its driver is not installed.
    """
    ways: dict[str, Any] = {
        "schema": schema, "retry_seconds": retry_seconds, "transaction_pooling": transaction_pooling
    }  # fmt: skip
    key = _key(url, (*ways.values(), others))
    while True:
        opened = None if key is None else _open.get(key)
        if opened is None:
            engine = engines.create_engine(url, transaction_pooling=transaction_pooling, lock_seconds=retry_seconds)
            opened = _Opened(engine, key, **ways)
            if key is not None:
                _open[key] = opened
        mine = Share(opened)
        if opened.join(mine):
            return mine


def _key(url: sa.URL, options: Hashable) -> Hashable:
    """Return what stores have in common that share; None for one that shares nothing."""
    place: Hashable = ()
    if url.get_backend_name() == "sqlite":
        if not engines.is_file(url):
            return None
        path = str(Path(str(url.database)).absolute())
        # Another file may have the name by now, or its rights may be others.
        url, place = url.set(database=path), (engines.file_identity(path), read_only.options(path))
    return (os.getpid(), asyncio.get_running_loop(), url, place, options)
