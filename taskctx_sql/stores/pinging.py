"""How long a store has to answer a health check."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from taskctx_sql.errors import InvalidArgumentError, StoreUnavailableError
from taskctx_sql.limits import check_real


@asynccontextmanager
async def answering(timeout: float, database_url: str) -> AsyncIterator[None]:  # noqa: ASYNC109  # what a store is given
    """Raise StoreUnavailableError if the block does not end within so many seconds."""
    allowed = "a number of seconds above 0"
    check_real("timeout", timeout, allowed)
    if timeout <= 0:
        raise InvalidArgumentError("timeout", timeout, allowed)
    began = time.monotonic()
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        waited = time.monotonic() - began
        raise StoreUnavailableError("ping", database_url, waited, "it did not answer in time") from error
