"""Where a store may be used: in the event loop and the process that it was opened in."""

from __future__ import annotations

import asyncio
import os

from taskctx_sql.concurrency import is_running, running_loop
from taskctx_sql.errors import WrongEventLoopError


class Home:
    """The event loop and the process that are running now."""

    def __init__(self) -> None:
        self.process: int = os.getpid()
        self._loop = asyncio.get_running_loop()

    def check(self, database_url: str) -> None:
        """Raise WrongEventLoopError elsewhere, or AsyncioNeededError where no loop runs."""
        if not is_running(self._loop):
            # The process first: in a forked child no loop counts as running.
            if self.process == os.getpid():
                running_loop(f"use {database_url}")
            raise WrongEventLoopError(database_url)
