"""A server's neighbor that writes down which statements pass."""

from __future__ import annotations

import asyncio
import contextlib

from tests.support.loopback import Loopback, Streams


class Listener(Loopback):
    """Passes everything on, and writes down what is asked: what is only prepared, to learn its types, is not."""

    def __init__(self, server_url: str) -> None:
        super().__init__(server_url)
        self.heard: list[str] = []

    async def serve(self, client: Streams, server: Streams) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await asyncio.gather(self._listen(client[0], server[1]), self._answer(server[0], client[1]))

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The first message has no kind, and the driver may ask for encryption before it.
        while True:
            head = await reader.readexactly(4)
            body = await reader.readexactly(int.from_bytes(head, "big") - 4)
            writer.write(head + body)
            if len(body) > 4:
                break
        prepared: dict[bytes, str] = {}
        while True:
            kind, length = await reader.readexactly(1), await reader.readexactly(4)
            body = await reader.readexactly(int.from_bytes(length, "big") - 4)
            if kind == b"Q":
                self.heard.append(body.rstrip(b"\0").decode())
            elif kind == b"P":
                name, statement = body.split(b"\0", 2)[:2]
                prepared[name] = statement.decode()
            elif kind == b"B":
                self.heard.append(prepared[body.split(b"\0", 2)[1]])
            writer.write(kind + length + body)
            await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
