"""A loopback proxy in front of Postgres that cuts a connection at the message that makes a save durable.

It reads just enough of the protocol for that: COMMIT of a transaction that wrote, or a writing statement that is
executed outside of a transaction and so commits by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable
from enum import Enum

from tests.support.loopback import Loopback, Streams

_WRITES = re.compile(rb"\b(insert|update|delete|merge|taskctx_save\w*)\b", re.IGNORECASE)
_BEGINS = re.compile(rb"^\s*(begin|start)\b", re.IGNORECASE)
_COMMITS = re.compile(rb"^\s*(commit|end)\b|;\s*(commit|end)\b", re.IGNORECASE)
_SSL_REQUEST = 80877103
# How long a message that is delivered late is held back: longer than a retry takes to come.
HOLD_SECONDS = 0.3


class Cut(Enum):
    """What becomes of the message when the connection is cut."""

    LOST = "it is not delivered"
    ANSWER_LOST = "it is delivered, and its answer is not"
    LATE = "it is delivered after the connection is gone, while the save is tried again"


class Proxy(Loopback):
    """Passes everything on, until it cuts.

    Args:
        server_url: The server.
        choose: Asked at each message that commits a write: how to cut there, or None to pass it on.
    """

    def __init__(self, server_url: str, choose: Callable[[], Cut | None]) -> None:
        super().__init__(server_url)
        self._choose = choose
        self.decisive = 0
        self.cuts = 0

    async def serve(self, client: Streams, server: Streams) -> None:
        session = _Session(self, *client, *server)
        answers = asyncio.create_task(session.pass_answers())
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await session.pass_requests()
        finally:
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)

    def cut_here(self) -> Cut | None:
        """Decide at a message that commits a write."""
        self.decisive += 1
        cut = self._choose()
        self.cuts += cut is not None
        return cut


class _Session:
    """One connection of a client, and the proxy's own to the server."""

    def __init__(
        self,
        proxy: Proxy,
        client_reader: asyncio.StreamReader,
        client_writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._client_reader, self._client_writer = client_reader, client_writer
        self._server_reader, self._server_writer = server_reader, server_writer
        self._statements: dict[bytes, bytes] = {}
        self._portals: dict[bytes, bytes] = {}
        self._in_transaction = False
        self._wrote = False
        self._deaf = False
        self._ready = asyncio.Event()

    async def pass_requests(self) -> None:
        """Pass on what the client says, a batch at a time, until it goes or is cut off."""
        await self._pass_startup()
        batch = b""
        commits = False
        while True:
            kind = await self._client_reader.readexactly(1)
            length = await self._client_reader.readexactly(4)
            body = await self._client_reader.readexactly(int.from_bytes(length, "big") - 4)
            batch += kind + length + body
            commits |= self._note(kind, body)
            if kind in (b"P", b"B", b"E", b"D", b"C"):
                # The batch goes on to the next Sync or Flush.
                continue
            cut = self._proxy.cut_here() if commits else None
            if cut is not None:
                await self._cut(cut, batch)
                return
            self._server_writer.write(batch)
            await self._server_writer.drain()
            batch, commits = b"", False

    async def pass_answers(self) -> None:
        """Pass on what the server says, and see whether a transaction is open."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await self._server_reader.readexactly(5)
                body = await self._server_reader.readexactly(int.from_bytes(head[1:], "big") - 4)
                if head[:1] == b"Z":
                    self._in_transaction = body != b"I"
                    self._wrote &= self._in_transaction
                    self._ready.set()
                if not self._deaf:
                    self._client_writer.write(head + body)
                    await self._client_writer.drain()
        self._ready.set()
        if not self._deaf:
            self._client_writer.transport.abort()

    async def _pass_startup(self) -> None:
        length = await self._client_reader.readexactly(4)
        body = await self._client_reader.readexactly(int.from_bytes(length, "big") - 4)
        if int.from_bytes(body[:4], "big") == _SSL_REQUEST:
            self._client_writer.write(b"N")
            await self._pass_startup()
            return
        self._server_writer.write(length + body)

    def _note(self, kind: bytes, body: bytes) -> bool:
        """Follow which statement is which; return whether this message makes a write durable."""
        if kind == b"P":
            name, query = body.split(b"\0", 2)[:2]
            self._statements[name] = query
        elif kind == b"B":
            portal, name = body.split(b"\0", 2)[:2]
            self._portals[portal] = self._statements.get(name, b"")
        elif kind == b"E":
            return self._decides(self._portals.get(body.split(b"\0", 1)[0], b""))
        elif kind == b"Q":
            return self._decides(body.rstrip(b"\0"))
        return False

    def _decides(self, query: bytes) -> bool:
        self._wrote |= bool(_WRITES.search(query))
        # The server's next answer says so too; this is for a BEGIN in the same batch.
        self._in_transaction |= bool(_BEGINS.search(query))
        return self._wrote and (not self._in_transaction or bool(_COMMITS.search(query)))

    async def _cut(self, cut: Cut, batch: bytes) -> None:
        self._deaf = True
        self._ready.clear()
        if cut is Cut.ANSWER_LOST:
            self._server_writer.write(batch)
            await self._ready.wait()
        self._client_writer.transport.abort()
        if cut is Cut.LATE:
            await asyncio.sleep(HOLD_SECONDS)
            self._server_writer.write(batch)
            await self._ready.wait()
