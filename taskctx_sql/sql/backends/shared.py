"""Stores of one event loop share a back end if they open one address with the same options.

A program that opens a context by its address for each request has a hundred stores at a time, and not a hundred times
the files, connections and threads of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from taskctx_sql.sql import engines
from taskctx_sql.sql.backends.backend import Backend
from taskctx_sql.sql.engines import read_only

# The back ends that are open and who shares them, by process, loop, address and options. Used on the loop alone.
_open: Final[dict[Hashable, tuple[Backend, set[Share]]]] = {}


class Share:
    """One store's share in a back end. The last one to be released closes it."""

    def __init__(self, backend: Backend, shares: set[Share] | None = None, key: Hashable = None) -> None:
        self.backend = backend
        self._shares = set() if shares is None else shares
        self._shares.add(self)
        self._key = key
        self._home = (os.getpid(), asyncio.get_running_loop())

    @classmethod
    def of(cls, url: sa.URL, options: Hashable, create: Callable[[], Backend]) -> Share:
        """Return a share in the back end at an address, in this process and loop, with these options.

        A database in memory is not shared. Nothing is awaited here, so stores that open at the same time share, too.
        """
        key = _key(url, options)
        while True:
            known = _open.get(key)
            if known is None:
                known = (create(), set())
                if key is not None:
                    _open[key] = known
            share = cls(*known, key)
            # Just before, the last other share may have been released, with a store that was garbage-collected.
            if key is None or _open.get(key) is known:
                return share

    async def close(self) -> None:
        """Release it; the last one closes the back end."""
        if self._leave():
            await self.backend.close()

    def abandon(self) -> None:
        """Release it without waiting, when a store was never closed. Callable from any thread."""
        process, loop = self._home
        if process != os.getpid():
            # The back end is the parent process's; its threads are not here.
            return
        try:
            is_here = asyncio.get_running_loop() is loop
        except RuntimeError:
            is_here = False
        if not is_here:
            # If the loop is closed, nothing else runs there, and this thread does it.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._abandon)
                return
        self._abandon()

    def _abandon(self) -> None:
        if self._leave():
            self.backend.abandon()

    def _leave(self) -> bool:
        """Leave the others; return whether this was the last, which is true once."""
        if self not in self._shares:
            return False
        self._shares.discard(self)
        if self._shares:
            return False
        if (known := _open.get(self._key)) is not None and known[1] is self._shares:
            del _open[self._key]
        return True


def _key(url: sa.URL, options: Hashable) -> Hashable:
    """Return what the stores that share have in common; None if they must not."""
    file: Hashable = ()
    if url.get_backend_name() == "sqlite":
        if not engines.is_file(url):
            return None
        path = str(Path(str(url.database)).absolute())
        # Another file may have the name by now, or its rights may be others.
        url, file = url.set(database=path), (engines.file_identity(path), read_only.options(path))
    return (os.getpid(), asyncio.get_running_loop(), url, file, options)
