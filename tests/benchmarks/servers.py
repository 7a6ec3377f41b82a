"""A Postgres to measure on, and in it a database for each side, which is dropped in the end."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import psutil  # type: ignore[import-untyped]  # it is installed with the server
import sqlalchemy as sa

from tests.support.postgres import Server


@contextmanager
def postgres(named: str | None) -> Iterator[str]:
    """Yield the URL of the server that is named, or of one of our own."""
    if named is not None:
        yield named
        return
    with Server() as server:
        yield server.url


@asynccontextmanager
async def databases(server: str, count: int) -> AsyncIterator[list[str]]:
    """Yield so many new, empty databases."""
    url = _plain(server)
    names = [f"taskctx_benchmark_{uuid.uuid4().hex[:12]}" for _ in range(count)]
    connection = await asyncpg.connect(_text(url))
    try:
        for name in names:
            await connection.execute(f"CREATE DATABASE {name}")
        yield [_text(url.set(database=name)) for name in names]
    finally:
        for name in names:
            await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.close()


async def settings(server: str) -> dict[str, str]:
    """Return the server's version, and what it promises of a commit."""
    connection = await asyncpg.connect(_text(_plain(server)))
    try:
        names = ("server_version", "fsync", "synchronous_commit")
        return {name: str(await connection.fetchval(f"SHOW {name}")) for name in names}
    finally:
        await connection.close()


async def process(server: str) -> Any:
    """Return the main process of a server on this machine, for `processor_seconds`."""
    connection = await asyncpg.connect(_text(_plain(server)))
    try:
        found = psutil.Process(await connection.fetchval("SELECT pg_backend_pid()")).parent()
        assert found is not None
        return found
    finally:
        await connection.close()


def processor_seconds(server: Any = None) -> float:
    """Return what this process and a server have used of the processors so far; a server's in hundredths."""
    total = time.process_time()
    if server is not None:
        spent = server.cpu_times()
        total += float(spent.user + spent.system + spent.children_user + spent.children_system)
        for child in server.children():
            spent = child.cpu_times()
            total += float(spent.user + spent.system)
    return total


def _plain(server: str) -> sa.URL:
    """Without the driver that a URL of SQLAlchemy's may name."""
    return sa.make_url(server).set(drivername="postgresql")


def _text(url: sa.URL) -> str:
    return url.render_as_string(hide_password=False)
