"""A database for each test: in memory, in a file, or on a Postgres server."""

from __future__ import annotations

import shutil
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from taskctx_sql import schema
from taskctx_sql.concurrency import blocking
from taskctx_sql.locations import file_address


class SqliteDatabases:
    """Databases that are copies of one at the newest schema: a copy takes a hundredth of the time of an upgrade.

    Args:
        folder: Where the one that is copied is kept.
        in_memory: Whether the copies are in memory, and gone when their block ends.
    """

    def __init__(self, folder: Path, *, in_memory: bool) -> None:
        """Set up the one that is copied."""
        self._template = folder / "template.db"
        self._in_memory = in_memory
        blocking(schema.upgrade(file_address("sqlite", self._template)))

    @property
    def needs_folder(self) -> bool:
        """Whether a test's database is a file."""
        return not self._in_memory

    @contextmanager
    def new(self, folder: Path | None) -> Iterator[str]:
        """Yield the address of a database with nothing in it, in this folder if there is one."""
        if folder is not None:
            path = folder / "taskctx.db"
            shutil.copy(self._template, path)
            yield file_address("sqlite", path)
            return
        # Every store that is opened at the address has the same database, as long as this connection is open.
        name = f"file:taskctx_{uuid.uuid4().hex}?mode=memory&cache=shared"
        with closing(sqlite3.connect(name, uri=True, check_same_thread=False)) as connection:
            with closing(sqlite3.connect(self._template)) as template:
                template.backup(connection)
            yield f"sqlite:///{name}&uri=true"

    def close(self) -> None:
        """Nothing is left to remove: pytest removes the folder."""


class PostgresDatabases:
    """One database of this process on a server, whose tables are emptied after each test.

    Args:
        server_url: The server, and an account that may create databases there.
        worker: What tells this process from others in the database's name.
    """

    needs_folder: bool = False

    def __init__(self, server_url: str, worker: str) -> None:
        """Create the database, at the newest schema."""
        from taskctx_sql.sql import throwaway

        self._throwaway = throwaway
        self._server_url = server_url
        self._name = f"taskctx_test_{worker}_{uuid.uuid4().hex[:12]}"
        self._url: str = blocking(throwaway.create_database(server_url, self._name))
        try:
            blocking(schema.upgrade(self._url))
        except BaseException:
            self.close()
            raise

    @contextmanager
    def new(self, folder: Path | None = None) -> Iterator[str]:
        """Yield the address of the database, with nothing in it."""
        yield self._url
        blocking(self._throwaway.empty_tables(self._url))

    def close(self) -> None:
        """Drop the database, whoever is still connected to it."""
        blocking(self._throwaway.drop_database(self._server_url, self._name))
