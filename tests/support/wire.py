"""A network between a program and Postgres: a loopback proxy that adds latency, and counts the round trips."""

from __future__ import annotations

import asyncio
import contextlib

from taskctx_sql.sql.watch import notifier
from tests.support.loopback import Loopback, Streams

# The channel as an argument of a statement, with its length before it.
CHANNEL = len(notifier.CHANNEL).to_bytes(4, "big") + notifier.CHANNEL.encode()


class Network(Loopback):
    """Passes everything on, later.

    Args:
        server_url: The server.
        seconds: How long everything takes, each way.
    """

    def __init__(self, server_url: str, seconds: float) -> None:
        super().__init__(server_url)
        self._seconds = seconds
        # How often somebody said something after having heard the answer to what was said before. What tells those who
        # watch is not counted: nobody waits for it.
        self.round_trips = 0

    async def serve(self, client: Streams, server: Streams) -> None:
        heard = asyncio.Event()
        heard.set()
        with contextlib.suppress(OSError):
            await asyncio.gather(
                self._pass(client[0], server[1], heard, asking=True),
                self._pass(server[0], client[1], heard, asking=False),
            )

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: asyncio.Event, *, asking: bool
    ) -> None:
        while data := await reader.read(65536):
            if asking and heard.is_set():
                self.round_trips += CHANNEL not in data and b"pg_notify" not in data
                heard.clear()
            await asyncio.sleep(self._seconds)
            writer.write(data)
            await writer.drain()
            if not asking:
                heard.set()
        writer.close()
