"""Bringing the search index and the daily sums up to date in the background, as long as a store is open."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from taskctx_sql.concurrency import wait_until_done
from taskctx_sql.sql import engines

logger: logging.Logger = logging.getLogger(__name__)

# How long nobody must have saved for it to be done without regard for saves, in seconds.
IDLE: Final = 0.3
# How many updates or contexts a transaction takes while nobody saves, and while others do, who wait for it on SQLite.
_AT_REST: Final = 100
_AT_WORK: Final = 20
# How many times as long as a transaction took the pause after it is. A long one, such as that of a task with many
# updates, is followed by the longer pause in any case: whoever saves meanwhile waits for it on SQLite.
_PAUSE_AT_REST: Final = 1
_PAUSE_AT_WORK: Final = 14
_LONG: Final = 0.2
# How long a store saves without looking whether there is something by now.
LOOK_SECONDS: Final = 60.0


class CatchUp:
    """Does what waits, shortly after a save, with pauses. It belongs to one event loop.

    Attributes:
        is_there: Whether the database has what is to be brought up to date, as far as is known.
    """

    def __init__(
        self, name: str, portion: Callable[[int], Awaitable[int]], find: Callable[[], Awaitable[bool]]
    ) -> None:
        """Take what does at most so much of it, and returns how much it was, and what looks whether it is there.

        It is called again until it returns 0.
        """
        self._name = name
        self._portion = portion
        self._find = find
        self.is_there: bool = False
        self._look_at = time.monotonic() + LOOK_SECONDS
        self._saved_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._is_failing = False
        self._closing = asyncio.Event()

    def note(self) -> None:
        """Take up soon what was saved just now."""
        if not self.is_there and time.monotonic() < self._look_at:
            return
        self._saved_at = time.monotonic()
        if self._task is None and not self._closing.is_set():
            self._task = asyncio.create_task(self._run(), name=f"taskctx-{self._name}")

    async def close(self) -> None:
        """Finish the transaction under way. What still waits is taken up by whoever saves next."""
        self._closing.set()
        if self._task is not None:
            await wait_until_done(self._task)

    async def _run(self) -> None:
        pause = IDLE
        try:
            while await self._is_open_after(pause):
                began = time.monotonic()
                is_idle = began - self._saved_at >= IDLE
                if not await self._do(_AT_REST if is_idle else _AT_WORK):
                    if self._saved_at < began:
                        return
                    pause = IDLE
                    continue
                took = time.monotonic() - began
                pause = took * (_PAUSE_AT_REST if is_idle and took < _LONG else _PAUSE_AT_WORK)
        except Exception as error:
            # Answers stay right, since they also read what waits. Each save would log it anew, until it succeeds again.
            log = logger.debug if self._is_failing else logger.warning
            log("cannot bring the %s up to date: %s", self._name, engines.reason(error))
            self._is_failing = True
        finally:
            self._task = None

    async def _do(self, most: int) -> int:
        if not self.is_there:
            # Another program may have built it.
            self._look_at = time.monotonic() + LOOK_SECONDS
            self.is_there = await self._find()
        if not self.is_there:
            return 0
        try:
            done = await self._portion(most)
        except Exception:
            self.is_there = False
            if await self._find():
                raise
            # Another program has dropped it.
            return 0
        self._is_failing = False
        return done

    async def _is_open_after(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        return not self._closing.is_set()
