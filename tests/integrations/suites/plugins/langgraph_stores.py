"""A pytest plugin that puts our saver and item store in the place of LangGraph's own on SQLite and Postgres.

The suites open a database of their own for each test, by addresses that name no server here. Each address is a user of
the database that ``TASKCTX_SUITE_DATABASE_URL`` names; ``:memory:`` is another one each time.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import cache
from typing import Any

import langgraph.checkpoint.postgres
import langgraph.checkpoint.postgres.aio
import langgraph.checkpoint.sqlite
import langgraph.checkpoint.sqlite.aio
import langgraph.store.postgres
import langgraph.store.postgres.aio
import langgraph.store.sqlite
import langgraph.store.sqlite.aio
import psycopg
import psycopg_pool

from taskctx_sql import Store, blocking, open_store
from taskctx_sql.integrations.langgraph import ContextItemStore, ContextSaver

URL = os.environ["TASKCTX_SUITE_DATABASE_URL"]
# The graphs' tests ask for servers of Redis and Postgres without it, beside the saver that is ours.
os.environ["NO_DOCKER"] = "true"

_users: dict[str, str] = {}
_stores = ExitStack()


@cache
def plain_store() -> Store:
    """Return the store that all tests share, but those that open one in their event loop."""
    return _stores.enter_context(open_store(URL))


def pytest_sessionfinish() -> None:
    _stores.close()


def user_of(address: str) -> str:
    """Return the user who stands for a database."""
    new = os.urandom(8).hex()
    return new if address == ":memory:" else _users.setdefault(address.split("?")[0], new)


class Nothing:
    """A connection or a pool that does nothing: the suites make and drop databases with it."""

    def __init__(self, address: str, **options: Any) -> None:
        self.address = address

    @classmethod
    def connect(cls, address: str, **options: Any) -> Nothing:
        return cls(address)

    def __class_getitem__(cls, row: Any) -> Any:
        return cls

    def execute(self, *arguments: Any) -> None: ...

    def pipeline(self) -> Nothing:
        return self

    def __enter__(self) -> Nothing:
        return self

    def __exit__(self, *exc_info: object) -> None: ...


class AsyncNothing:
    """The same for async code."""

    def __init__(self, address: str, **options: Any) -> None:
        self.address = address

    @classmethod
    async def connect(cls, address: str, **options: Any) -> AsyncNothing:
        return cls(address)

    def __class_getitem__(cls, row: Any) -> Any:
        return cls

    async def execute(self, *arguments: Any) -> None: ...

    def pipeline(self) -> AsyncNothing:
        return self

    async def __aenter__(self) -> AsyncNothing:
        return self

    async def __aexit__(self, *exc_info: object) -> None: ...


def over_connections(ours: type[Any], *, is_async: bool) -> type[Any]:
    """Return our class as the suites make the framework's own: of a connection, or of an address."""

    async def begin(self: Any, store: Store, address: str, options: dict[str, Any]) -> None:
        ours.__init__(self, store, user_id=user_of(address), **options)
        # Fixtures prepare the tables with these.
        self.MIGRATIONS, nothing = [], AsyncNothing("") if is_async else Nothing("")
        self._cursor = lambda **options: nothing

    def made(self: Any, connection: Any, pipe: Any = None, **options: Any) -> None:
        # In the event loop of the store that all share, wherever the test is.
        blocking(begin(self, plain_store(), connection.address, options))

    @contextmanager
    def opened(cls: Any, address: str, **options: Any) -> Iterator[Any]:
        yield cls(Nothing(address), **known(options))

    @asynccontextmanager
    async def opened_here(cls: Any, address: str, **options: Any) -> AsyncIterator[Any]:
        async with open_store(URL) as store:
            made = cls.__new__(cls)
            await begin(made, store, address, known(options))
            yield made

    def nothing(self: Any, *arguments: Any, **options: Any) -> bool:
        return True

    async def nothing_here(self: Any, *arguments: Any, **options: Any) -> bool:
        return True

    # What there is no need for: tables are there, and what has expired is never returned.
    needless = dict.fromkeys(["setup", "start_ttl_sweeper", "stop_ttl_sweeper"], nothing_here if is_async else nothing)
    body = {"__init__": made, "from_conn_string": classmethod(opened_here if is_async else opened), **needless}
    if is_async and ours is ContextItemStore:
        body["sweep_ttl"] = ContextItemStore.asweep_ttl
    return type(ours.__name__, (ours,), body)


def known(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that are not about connections."""
    return {name: value for name, value in options.items() if name in ("index", "ttl", "serde")}


for connection, name in ((psycopg, "Connection"), (psycopg_pool, "ConnectionPool")):
    setattr(connection, name, Nothing)
    setattr(connection, f"Async{name}", AsyncNothing)
for package, ours, name in (
    (langgraph.checkpoint.sqlite, ContextSaver, "SqliteSaver"),
    (langgraph.checkpoint.postgres, ContextSaver, "PostgresSaver"),
    # The one that keeps only the latest checkpoint, which is deprecated.
    (langgraph.checkpoint.postgres, ContextSaver, "ShallowPostgresSaver"),
    (langgraph.store.sqlite, ContextItemStore, "SqliteStore"),
    (langgraph.store.postgres, ContextItemStore, "PostgresStore"),
):
    setattr(package, name, over_connections(ours, is_async=False))
    of_async = over_connections(ours, is_async=True)
    setattr(package, f"Async{name}", of_async)
    setattr(package.aio, f"Async{name}", of_async)
