"""A port of this machine in front of a Postgres: what the proxies of the tests have in common."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

import sqlalchemy as sa

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Loopback:
    """Listens, and gives each connection to `serve` with one of its own to the server.

    Args:
        server_url: The server.
    """

    def __init__(self, server_url: str) -> None:
        self._server = sa.make_url(server_url)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
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
        through = self._server.set(
            drivername="postgresql", username=self._server.username or "postgres", host="127.0.0.1", port=port, query={}
        )
        return through.render_as_string(hide_password=False)

    async def serve(self, client: Streams, server: Streams) -> None:
        """Pass on what the two say, until one of them goes."""
        raise NotImplementedError

    async def _connect(self) -> Streams:
        folder = self._server.query.get("host")
        port = self._server.port or 5432
        if isinstance(folder, str) and folder.startswith("/"):
            return await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{port}")
        named = folder if isinstance(folder, str) else self._server.host
        return await asyncio.open_connection(named or "127.0.0.1", port)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        server = await self._connect()
        try:
            await self.serve((reader, writer), server)
        except asyncio.CancelledError:
            # By this proxy's end. Python before 3.12 would report it as a failure.
            pass
        finally:
            for end in (writer, server[1]):
                end.transport.abort()
