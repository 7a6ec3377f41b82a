"""Where programs are explored: each kind of store, and a second writer to it on a thread and a loop of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql import Feature, Store
from tests.support.connections import KINDS, Connection, option

NAMES: Final[tuple[str, ...]] = tuple(map(option, KINDS))
# A call that meets a fault gives up at once, or tries again for a while.
RETRY_SECONDS: Final = (0.0, 1.0)


@dataclass
class Place:
    """A database or folder, with nothing of the programs in it.

    Attributes:
        connection: How it is reached.
        copy_address: Of another one like it, to copy to; empty where nothing can be copied.
    """

    connection: Connection
    copy_address: str = ""

    @property
    def kind(self) -> str:
        return self.connection.kind

    @property
    def address(self) -> str:
        return self.connection.address

    @property
    def folder(self) -> str:
        """The folder of JSON files; empty for a database."""
        return self.address.removeprefix("json:///") if self.kind == "json" else ""

    def engine(self) -> AsyncEngine | None:
        """An engine as a caller may have made it, for stores on one loop."""
        return self.connection.engine()

    async def open(self, engine: AsyncEngine | None, *, strict: bool = False, retry_seconds: float = 5.0) -> Store:
        return await self.connection.open(engine, strict=strict, retry_seconds=retry_seconds)


class Other:
    """A second writer. What it does is done while the first one's loop waits, unless a lock keeps it from that."""

    # As long as the first one's loop waits for it.
    PATIENCE: Final = 0.1

    def __init__(self, place: Place) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos-other", daemon=True)
        self._thread.start()
        self._engine = place.engine()
        self._started: list[concurrent.futures.Future[Any]] = []
        self.store: Store = self._run(place.open(self._engine)).result(30)

    @property
    def features(self) -> frozenset[Feature]:
        return self.store.features

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Begin, and wait a moment."""
        future = self._run(work)
        self._started.append(future)
        with contextlib.suppress(Exception):
            future.result(self.PATIENCE)

    async def finish(self, seconds: float) -> list[BaseException]:
        """Wait for all that was begun; return what went wrong."""
        started, self._started = self._started, []
        errors: list[BaseException] = []
        for future in started:
            try:
                await asyncio.wait_for(asyncio.wrap_future(future), seconds)
            except Exception as error:
                errors.append(error)
        return errors

    def close(self) -> None:
        self._run(self.store.close()).result(30)
        if self._engine is not None:
            self._run(self._engine.dispose()).result(30)
        self._run(self._loop.shutdown_default_executor()).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> concurrent.futures.Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)
