"""Whether a server answers, for programs that would rather fail soon than wait out an outage."""

from __future__ import annotations

from taskctx_sql.sql import engines
from taskctx_sql.sql.retry import Retrying


async def reach(database_url: str, seconds: float) -> None:
    """Connect once to the server at a URL, and retry for so many seconds.

    Raises:
        StoreUnavailableError: It could not be reached in this time.
        StoreFailedError: It refuses the connection.
    """
    engine = engines.create_engine(engines.parse_url(database_url), connect_seconds=seconds)
    try:
        connection = await Retrying(engines.mask(database_url), seconds).run("connect", engine.connect)
        await connection.close()
    finally:
        await engines.dispose(engine)
