"""Attempts are repeated while the database is away, until a deadline."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Final, TypeVar

from taskctx_sql import observing
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

logger: logging.Logger = logging.getLogger(__name__)

DEFAULT_RETRY_SECONDS: Final = 15.0

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0

# How many seconds an attempt that began before the deadline may go on after it.
GRACE: Final = 2.0
# How many seconds an attempt gets that had to wait for its turn until then.
MIN_SECONDS: Final = 1.0

# When the current attempt is given up, by `time.monotonic`; None: never.
_deadline: ContextVar[float | None] = ContextVar("taskctx_deadline", default=None)


def deadline() -> float | None:
    """Return when the current call gives up, by `time.monotonic`; None if it does not."""
    return _deadline.get()


def seconds_left(until: float | None) -> float | None:
    """Return how long an attempt may still take."""
    return None if until is None else max(MIN_SECONDS, until - time.monotonic())


def lock_seconds_left(until: float | None, most: float) -> float:
    """Return how long a call that gives up ``until`` then may still wait for a lock of the database.

    The time that it waited for other calls of this process, which waited for the same lock, counts.
    """
    return most if until is None else max(0.0, min(most, until - GRACE - time.monotonic()))


@asynccontextmanager
async def in_turn(turn: asyncio.Lock | asyncio.Semaphore | None) -> AsyncIterator[None]:
    """Hold a lock in the block, or raise TimeoutError if the current call may not wait so long; None is no lock."""
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
def within(seconds: float) -> Iterator[None]:
    """Let calls in the block give up after so many seconds and `GRACE`."""
    token = _deadline.set(time.monotonic() + seconds + GRACE)
    try:
        yield
    finally:
        _deadline.reset(token)


# For how many rows an attempt gets a second more: a tenth of the slowest rate that was measured.
ROWS_A_SECOND: Final = 1_000

# Gives the current attempt more time, in seconds.
_extend: ContextVar[Callable[[float], None] | None] = ContextVar("taskctx_extend", default=None)


def allow(rows: int) -> None:
    """Give the current attempt more time, for so many rows to read or write."""
    extend = _extend.get()
    if extend is not None:
        extend(rows / ROWS_A_SECOND)


@contextmanager
def extended_by(extend: Callable[[float], None]) -> Iterator[None]:
    """Let `allow` in the block call a function with the seconds."""
    token = _extend.set(extend)
    try:
        yield
    finally:
        _extend.reset(token)


def extend_limit(limit: asyncio.Timeout, seconds: float) -> None:
    """Let a timeout expire later."""
    when = limit.when()
    if when is not None and not limit.expired():
        limit.reschedule(when + seconds)


class InDoubtError(Exception):
    """COMMIT failed, and whether it happened is unknown; the engine's error is the cause."""


class Retrying:
    """Repeats work that may safely be done twice after failures that may pass."""

    def __init__(self, database_url: str, seconds: float, schema: str | None = None) -> None:
        self._database_url = database_url
        self._schema = schema
        self._seconds = seconds
        # Since when nothing has worked: an outage is logged once, whichever call notices it.
        self._away_since: float | None = None
        self._under_way = 0
        self._closing = asyncio.Event()
        self._idle = asyncio.Event()

    async def close(self) -> None:
        """Repeat nothing from now on, and wait until the work under way has ended."""
        self._closing.set()
        while self._under_way:
            self._idle.clear()
            await self._idle.wait()

    async def run(self, doing: str, work: Callable[[], Awaitable[T]], *, extra: float | None = 0.0) -> T:
        """Return the result of the work. Errors of this library are raised at once, and call it ``doing``.

        Attempts may take ``extra`` seconds more; None: there is no limit.

        Raises:
            StoreClosedError: `close` was called before the work was done.
            StoreUnavailableError: It failed for as long as it is repeated.
            NotADatabaseError: The file is not a database.
            StoreFailedError: Repeating it would not help.
        """
        if self._closing.is_set():
            raise StoreClosedError(self._database_url)
        self._under_way += 1
        started = time.monotonic()
        in_doubt = False
        attempt = 0
        # As `within` does, but faster, since this runs for every save.
        token = _deadline.set(None if extra is None else started + self._seconds + extra + GRACE)
        try:
            while True:
                try:
                    result = await work()
                    if self._away_since is not None:
                        self._is_back()
                    return result
                except TaskContextError:
                    raise
                except InDoubtError as error:
                    in_doubt = True
                    cause: BaseException = error.__cause__ or error
                except Exception as error:
                    cause = error
                    self._raise_final(doing, error, in_doubt=in_doubt)
                attempt += 1
                await self._pause(doing, cause, started, attempt, in_doubt=in_doubt)
        finally:
            _deadline.reset(token)
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    def _is_back(self) -> None:
        if self._away_since is not None:
            away_for = time.monotonic() - self._away_since
            logger.warning("%s is back after %.1f s", self._database_url, away_for)
            observing.observer().outage_ended(self._database_url, self._schema, away_for)
            self._away_since = None

    def _raise_final(self, doing: str, error: Exception, *, in_doubt: bool) -> None:
        """Raise what an error means, unless another attempt may succeed."""
        verdict = engines.classify(error)
        if verdict is engines.ErrorClass.NOT_A_DATABASE:
            raise NotADatabaseError(self._database_url) from error
        reason, looked = engines.reason(error), engines.is_raised_by_writing(error)
        failed: StoreFailedError | None = None
        if doing == "save" and engines.is_refusal(error):
            failed = SaveRefusedError(self._database_url, reason, looked=looked)
        elif verdict is engines.ErrorClass.FINAL:
            unknown = in_doubt and not looked
            failed = StoreFailedError(doing, self._database_url, reason, outcome_unknown=unknown, looked=looked)
        if failed is not None:
            failed.denied = engines.is_denied(error)
            raise failed from error

    async def _pause(self, doing: str, cause: BaseException, started: float, attempt: int, *, in_doubt: bool) -> None:
        """Wait before another attempt, or raise StoreUnavailableError or StoreClosedError if there is none."""
        waited = time.monotonic() - started
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)
        reason, name = engines.reason(cause), self._database_url
        away = StoreUnavailableError(doing, name, waited, reason, outcome_unknown=in_doubt)
        if waited + pause > self._seconds or (in_doubt and self._closing.is_set()):
            away.denied = engines.is_failover(cause)
            raise away from cause
        if self._away_since is None:
            self._away_since = started
            logger.warning("could not %s in %s, trying again: %s", doing, name, reason)
            observing.observer().outage_began(name, self._schema)
        observing.observer().attempt_failed(name, self._schema, cause)
        if await self._closes_within(pause):
            raise (away if in_doubt else StoreClosedError(name)) from cause

    async def _closes_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return False
        return True
