"""psycopg's connection, for engines of the library's own. Imported only where psycopg is used."""

from __future__ import annotations

from typing import Any, Final

import psycopg

# How long a server has to answer when a statement is cancelled. psycopg gives it ten seconds.
CANCEL_SECONDS: Final = 1.0


class PromptConnection(psycopg.AsyncConnection[Any]):
    """A connection on which a cancelled call ends soon, also if the server does not answer."""

    async def cancel_safe(self, *, timeout: float = CANCEL_SECONDS) -> None:  # noqa: ASYNC109  # psycopg's own
        """Cancel the statement that is executed; close the connection if the server does not answer."""
        try:
            await super().cancel_safe(timeout=min(timeout, CANCEL_SECONDS))
        except Exception:
            # What still waits for the server ends, too.
            self.pgconn.finish()
            raise


async def connect(**settings: Any) -> PromptConnection:
    """Connect as ``psycopg.AsyncConnection.connect`` does."""
    return await PromptConnection.connect(**settings)
