"""TLS in front of a Postgres: a loopback proxy that ends it, with certificates of its own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from tests.support.loopback import Loopback, Streams

# What a client of Postgres says first if it would like TLS.
SSL_REQUEST = (8).to_bytes(4, "big") + (80_877_103).to_bytes(4, "big")


class TlsServer(Loopback):
    """Offers TLS, and passes on what it carries; also takes connections without.

    Args:
        server_url: The server.
        context: The certificates of this one; None offers no TLS.
    """

    def __init__(self, server_url: str, context: ssl.SSLContext | None) -> None:
        super().__init__(server_url)
        self._context = context
        # Of each connection that was served, in their order: whether it had TLS.
        self.encrypted: list[bool] = []

    async def serve(self, client: Streams, server: Streams) -> None:
        reader, writer = client
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            first = await reader.readexactly(8)
            asked = first == SSL_REQUEST
            if asked:
                writer.write(b"S" if self._context else b"N")
                await writer.drain()
                if self._context:
                    await writer.start_tls(self._context)
                first = await reader.readexactly(8)
            self.encrypted.append(asked and self._context is not None)
            server[1].write(first)
            await asyncio.gather(self._pass(reader, server[1]), self._pass(server[0], writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
