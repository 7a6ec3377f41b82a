"""Work is done again while the database is away, for as long as is allowed."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from taskctx_sql.errors import (
    NotADatabaseError,
    SaveRefusedError,
    StoreFailedError,
    StoreUnavailableError,
    TaskContextError,
)
from taskctx_sql.sql import dialect

T = TypeVar("T")

logger = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0


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

    async def run(self, doing: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work, and return what it returns. Its own errors of this library are raised at once.

        Raises:
            StoreUnavailableError: It failed for as long as is allowed.
            NotADatabaseError: The file is no database.
            StoreFailedError: Trying again would not help.
        """
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
                verdict = dialect.judge(error)
                if verdict is dialect.Verdict.NOT_A_DATABASE:
                    raise NotADatabaseError(self._address) from error
                if doing == "save" and dialect.is_refusal(error):
                    # No copy of it was written before: each looks for another one first.
                    raise SaveRefusedError(self._address, dialect.reason(error)) from error
                if verdict is dialect.Verdict.FINAL:
                    raise StoreFailedError(
                        doing, self._address, dialect.reason(error), outcome_unknown=in_doubt
                    ) from error
            waited = time.monotonic() - started
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * random.uniform(0.5, 1.0)
            attempt += 1
            if waited + pause > self._seconds:
                raise StoreUnavailableError(
                    doing, self._address, waited, dialect.reason(cause), outcome_unknown=in_doubt
                ) from cause
            if self._away_since is None:
                self._away_since = started
                logger.warning("could not %s in %s, trying again: %s", doing, self._address, dialect.reason(cause))
            await asyncio.sleep(pause)

    def _note_success(self) -> None:
        if self._away_since is not None:
            away, self._away_since = time.monotonic() - self._away_since, None
            logger.warning("%s is back after %.1f s", self._address, away)
