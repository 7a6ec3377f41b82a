"""A network between a program and Postgres: a loopback proxy that adds latency, and counts the round trips."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType

import sqlalchemy as sa


class Network:
    """Listens on a port of this machine, and passes everything on to a server, later.

    Args:
        server_url: The server.
        seconds: How long everything takes, each way.
    """

    def __init__(self, server_url: str, seconds: float) -> None:
        self._server = sa.make_url(server_url)
        self._seconds = seconds
        self._tasks: set[asyncio.Task[None]] = set()
        # How often somebody said something after having heard the answer to what was said before.
        self.round_trips = 0

    async def __aenter__(self) -> Network:
        self._listening = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listening.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """The URL of the same database, through here."""
        port = self._listening.sockets[0].getsockname()[1]
        return self._server.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        folder = self._server.query.get("host")
        if isinstance(folder, str) and folder.startswith("/"):
            return await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{self._server.port or 5432}")
        return await asyncio.open_connection(self._server.host or "127.0.0.1", self._server.port or 5432)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        server_reader, server_writer = await self._connect()
        heard = asyncio.Event()
        heard.set()
        try:
            with contextlib.suppress(OSError):
                await asyncio.gather(
                    self._pass(reader, server_writer, heard, asking=True),
                    self._pass(server_reader, writer, heard, asking=False),
                )
        finally:
            for end in (writer, server_writer):
                end.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: asyncio.Event, *, asking: bool
    ) -> None:
        while data := await reader.read(65536):
            if asking and heard.is_set():
                self.round_trips += 1
                heard.clear()
            await asyncio.sleep(self._seconds)
            writer.write(data)
            await writer.drain()
            if not asking:
                heard.set()
        writer.close()
