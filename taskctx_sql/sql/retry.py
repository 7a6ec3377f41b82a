"""Work is done again while the database is away, for as long as is allowed."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Final, TypeVar

from taskctx_sql.errors import (
    NotADatabaseError,
    SaveRefusedError,
    StoreClosedError,
    StoreFailedError,
    StoreUnavailableError,
    TaskContextError,
)
from taskctx_sql.sql import engines

T = TypeVar("T")

logger = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0


# How much longer than retrying an attempt may take: one that began in time is not cut off at once.
GRACE: Final = 2.0
# An attempt that has to wait for its turn still gets so long.
LEAST: Final = 1.0

# When the attempt that is under way is given up, by `time.monotonic`; None: never.
_deadline: ContextVar[float | None] = ContextVar("taskctx_deadline", default=None)


def deadline() -> float | None:
    """Return when the call that is under way gives up, by `time.monotonic`, if it does."""
    return _deadline.get()


def seconds_left(until: float | None) -> float | None:
    """Return how long an attempt may still take."""
    return None if until is None else max(LEAST, until - time.monotonic())


def lock_seconds_left(until: float | None, most: float) -> float:
    """Return how long somebody else's lock may still be waited for, by a call that gives up ``until`` then.

    Whoever had to wait for others of this process, who waited for the same lock, has so much less time.
    """
    return most if until is None else max(0.0, min(most, until - GRACE - time.monotonic()))


@asynccontextmanager
async def in_turn(turn: asyncio.Lock | asyncio.Semaphore | None) -> AsyncIterator[None]:
    """Wait for one's turn, as long as the call that is under way may take; None: it is everybody's turn.

    Raises:
        TimeoutError: It did not come in time.
    """
    if turn is None:
        yield
        return
    if turn.locked():
        try:
            async with asyncio.timeout(seconds_left(deadline())):
                await turn.acquire()
        except TimeoutError as error:
            raise TimeoutError("others of this process, who came before, still wait for it") from error
    else:
        await turn.acquire()
    try:
        yield
    finally:
        turn.release()


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """Give what is done in the block so long, and a little more; with None as long as it takes."""
    token = _deadline.set(None if seconds is None else time.monotonic() + seconds + GRACE)
    try:
        yield
    finally:
        _deadline.reset(token)


# Rows take their time: some ten times more slowly than any that was measured.
ROWS_A_SECOND: Final = 1_000

# What gives the attempt that is under way more time, in seconds.
_extend: ContextVar[Callable[[float], None] | None] = ContextVar("taskctx_extend", default=None)


def allow(rows: int) -> None:
    """Give the attempt that is under way more time: it found out that it has so many rows to read or write."""
    extend = _extend.get()
    if extend is not None:
        extend(rows / ROWS_A_SECOND)


@contextmanager
def extended_by(extend: Callable[[float], None]) -> Iterator[None]:
    """Let what is done in the block ask for more time."""
    token = _extend.set(extend)
    try:
        yield
    finally:
        _extend.reset(token)


def extend_limit(limit: asyncio.Timeout, seconds: float) -> None:
    """Let a timeout come later."""
    when = limit.when()
    if when is not None and not limit.expired():
        limit.reschedule(when + seconds)


class InDoubtError(Exception):
    """COMMIT failed in a way that leaves open if it happened; the engine's error is the cause."""


class Retrying:
    """Does work that may safely be done twice, again after each failure that may pass.

    Args:
        address: What to call the database in errors.
        seconds: How long.
    """

    def __init__(self, address: str, seconds: float) -> None:
        """Take what all the work has in common."""
        self._address = address
        self._seconds = seconds
        # Since when nothing worked, if so: an outage is logged once, whoever finds out about it.
        self._away_since: float | None = None
        self._under_way = 0
        self._closing = asyncio.Event()
        self._idle = asyncio.Event()

    async def close(self) -> None:
        """Try nothing again, and wait until what is under way has ended."""
        self._closing.set()
        while self._under_way:
            self._idle.clear()
            await self._idle.wait()

    async def run(self, doing: str, work: Callable[[], Awaitable[T]], *, extra: float | None = 0.0) -> T:
        """Do the work, and return what it returns. Its own errors of this library are raised at once.

        Args:
            doing: What to call it in errors.
            work: What to do.
            extra: How many seconds more its attempts may take, for much work; None: as long as they take.

        Raises:
            StoreClosedError: It was closed before the work was done.
            StoreUnavailableError: It failed for as long as is allowed.
            NotADatabaseError: The file is no database.
            StoreFailedError: Trying again would not help.
        """
        if self._closing.is_set():
            raise StoreClosedError(self._address)
        self._under_way += 1
        # As `within` does: here it is done for every save.
        token = _deadline.set(None if extra is None else time.monotonic() + self._seconds + extra + GRACE)
        try:
            return await self._run(doing, work)
        finally:
            _deadline.reset(token)
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def _run(self, doing: str, work: Callable[[], Awaitable[T]]) -> T:
        started = time.monotonic()
        in_doubt = False
        attempt = 0
        while True:
            try:
                result = await work()
                self._note_success()
                return result
            except TaskContextError:
                raise
            except InDoubtError as error:
                in_doubt = True
                cause: BaseException = error.__cause__ or error
            except Exception as error:
                cause = error
                verdict = engines.classify(error)
                if verdict is engines.ErrorClass.NOT_A_DATABASE:
                    raise NotADatabaseError(self._address) from error
                reason, looked = engines.reason(error), engines.is_raised_by_writing(error)
                failed: StoreFailedError | None = None
                if doing == "save" and engines.is_refusal(error):
                    failed = SaveRefusedError(self._address, reason, looked=looked)
                elif verdict is engines.ErrorClass.FINAL:
                    unknown = in_doubt and not looked
                    failed = StoreFailedError(doing, self._address, reason, outcome_unknown=unknown, looked=looked)
                if failed is not None:
                    failed.denied = engines.is_denied(error)
                    raise failed from error
            waited = time.monotonic() - started
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * random.uniform(0.5, 1.0)
            attempt += 1
            if waited + pause > self._seconds or (in_doubt and self._closing.is_set()):
                away = StoreUnavailableError(
                    doing, self._address, waited, engines.reason(cause), outcome_unknown=in_doubt
                )
                away.denied = engines.is_failover(cause)
                raise away from cause
            if self._away_since is None:
                self._away_since = started
                logger.warning("could not %s in %s, trying again: %s", doing, self._address, engines.reason(cause))
            if await self._closes_within(pause):
                if in_doubt:
                    raise StoreUnavailableError(
                        doing, self._address, waited, engines.reason(cause), outcome_unknown=True
                    ) from cause
                raise StoreClosedError(self._address) from cause

    async def _closes_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return False
        return True

    def _note_success(self) -> None:
        if self._away_since is not None:
            away, self._away_since = time.monotonic() - self._away_since, None
            logger.warning("%s is back after %.1f s", self._address, away)
