"""New databases for a test, on each engine, checked and removed at the end."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Literal

from tests.chaos.trial import Result, Setup
from tests.support.connections import Connection

Engine = Literal["sqlite", "postgres"]


@asynccontextmanager
async def database(setup: Setup, engine: Engine, result: Result, *, upgraded: bool = True) -> AsyncIterator[Connection]:
    """Yield the connection to a new database; on SQLite it is a file that is not there yet."""
    if engine == "postgres":
        async with setup.new_connection(upgraded=upgraded) as connection:
            yield connection
        return
    path = setup.folder / f"{uuid.uuid4().hex}.db"
    yield Connection("sqlite", f"sqlite:///{path}")
    result.problems += integrity(path)
    remove_database(path)


def integrity(path: Path) -> list[str]:
    """What SQLite itself says about a file; empty if all is well."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check")]
    except sqlite3.DatabaseError as error:
        found = [str(error)]
    return [] if found == ["ok"] else [f"integrity_check of {path.name}: {line}" for line in found[:3]]


def remove_database(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
