"""A Postgres that stops answering: a loopback proxy that holds back what both sides say, for a while."""

from __future__ import annotations

import asyncio
import contextlib

from tests.support.loopback import Loopback, Streams


class Stalling(Loopback):
    """Passes everything on, but while it is stalled, nothing; new connections are accepted all the same."""

    def __init__(self, server_url: str) -> None:
        super().__init__(server_url)
        self._passes = asyncio.Event()
        self._passes.set()

    def stall(self) -> None:
        """Hold everything back from now on."""
        self._passes.clear()

    def go_on(self) -> None:
        """Pass on what was held back, and what follows."""
        self._passes.set()

    def cut(self) -> None:
        """Break all connections."""
        for task in self._tasks:
            task.cancel()

    def refuse(self) -> None:
        """Accept no new connections any more."""
        self._listening.close()

    async def empty(self) -> None:
        """Wait until all connections were closed."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def serve(self, client: Streams, server: Streams) -> None:
        ends = [asyncio.create_task(self._pass(*ends)) for ends in ((client[0], server[1]), (server[0], client[1]))]
        try:
            # Once one side is gone, the other has nobody to talk to.
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._passes.wait()
                writer.write(data)
                await writer.drain()
