"""The kinds of connections that everything is tested and measured over: how each is made ready, and opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from taskctx_sql import Store, open_store, schema
from tests.support import accounts, citus, pgbouncer
from tests.support.postgres import new_database

SCHEMA = "of choice"

# Takes the URL of an empty database, and yields the URL by which it is reached, at the newest schema.
Preparing = Callable[[str], AbstractAsyncContextManager[str]]


@asynccontextmanager
async def _upgraded(url: str) -> AsyncIterator[str]:
    await schema.upgrade(url)
    yield url


@asynccontextmanager
async def _upgraded_elsewhere(url: str) -> AsyncIterator[str]:
    await schema.upgrade(url, schema=SCHEMA)
    yield url


@asynccontextmanager
async def _behind_a_pooler(url: str) -> AsyncIterator[str]:
    await schema.upgrade(url)
    with pgbouncer.running(url) as pooled:
        yield pooled


@asynccontextmanager
async def _as_an_application(url: str) -> AsyncIterator[str]:
    await schema.upgrade(url, row_level_security=True)
    async with accounts.application(url) as its_url:
        yield its_url


@dataclass(frozen=True)
class Kind:
    """A kind of connection.

    Attributes:
        engine: The driver of the caller's engine that the store is given; empty where it opens an address.
        driver: The driver that its address names; empty where the library chooses.
        schema: The schema of the tables; None for the one that Postgres looks in.
        query: What its address ends with.
        prepare: How a database is made ready for it.
    """

    engine: str = ""
    driver: str = ""
    schema: str | None = None
    query: str = ""
    prepare: Preparing = _upgraded


PLAIN = "postgres"
KINDS = {
    "json": Kind(),
    "sqlite": Kind(),
    "sqlite engine": Kind("sqlite+aiosqlite"),
    PLAIN: Kind(),
    "postgres engine": Kind("postgresql+asyncpg"),
    "psycopg": Kind(driver="postgresql+psycopg"),
    "psycopg engine": Kind("postgresql+psycopg"),
    "schema": Kind(schema=SCHEMA, prepare=_upgraded_elsewhere),
    "pgbouncer": Kind(query="?transaction_pooling=true", prepare=_behind_a_pooler),
    "pgbouncer asyncpg": Kind(driver="postgresql+asyncpg", query="?transaction_pooling=true", prepare=_behind_a_pooler),
    "row-level security": Kind(prepare=_as_an_application),
    "citus": Kind(),
}
ON_SQLITE = ("sqlite", "sqlite engine")
ON_POSTGRES = tuple(name for name in KINDS if name not in ("json", *ON_SQLITE, "citus"))
OVER = (*ON_POSTGRES, "citus")


def option(kind: str) -> str:
    """What a command's option calls a kind."""
    return kind.replace(" ", "-")


OPTIONS = {option(kind): kind for kind in KINDS}


def available(citus_url: str | None) -> list[str]:
    """The kinds on Postgres that there is what it takes for, the plain one first."""
    absent = () if pgbouncer.BINARY else ("pgbouncer", "pgbouncer asyncpg")
    return [kind for kind in ON_POSTGRES if kind not in absent] + ["citus"] * bool(citus_url)


def with_driver(driver: str, url: str) -> str:
    """The same URL with a driver, such as ``postgresql+psycopg``."""
    return sa.make_url(url).set(drivername=driver).render_as_string(hide_password=False)


@dataclass(frozen=True)
class Connection:
    """A database, and how it is reached. It can travel to another process as JSON.

    Attributes:
        kind: One of `KINDS`.
        url: Where it is reached; without what else its address has.
        owner_url: Where the database's owner reaches it directly; empty where nobody asks.
    """

    kind: str
    url: str
    owner_url: str = ""

    @property
    def address(self) -> str:
        """What a store opens that is given no engine."""
        kind = KINDS[self.kind]
        url = with_driver(kind.driver, self.url) if kind.driver else self.url
        return f"{url}{kind.query}"

    @property
    def schema(self) -> str | None:
        return KINDS[self.kind].schema

    def engine(self) -> AsyncEngine | None:
        """A new engine as a caller may have made it, for the kinds that have one."""
        driver = KINDS[self.kind].engine
        return create_async_engine(sa.make_url(self.url).set(drivername=driver)) if driver else None

    async def open(self, engine: AsyncEngine | None, **options: Any) -> Store:
        """Open a store, by an engine that `engine` made; whoever asks closes both."""
        return await open_store(engine or self.address, schema=self.schema, **options)

    @asynccontextmanager
    async def store(self, **options: Any) -> AsyncIterator[Store]:
        """Yield an open store, and close it and its engine at the end."""
        engine = self.engine()
        try:
            async with open_store(engine or self.address, schema=self.schema, **options) as opened:
                yield opened
        finally:
            if engine is not None:
                await engine.dispose()

    def through(self, proxy_url: str) -> Connection:
        """The same, through a proxy."""
        proxy = sa.make_url(proxy_url)
        url = sa.make_url(self.url).set(host=proxy.host, port=proxy.port, query={})
        if url.username is None:
            url = url.set(username=proxy.username)
        return replace(self, url=url.render_as_string(hide_password=False))


@asynccontextmanager
async def new_connection(kind: str, server_url: str, *, upgraded: bool = True) -> AsyncIterator[Connection]:
    """Make a database ready for a kind, and drop it at the end.

    Args:
        kind: One of `KINDS` on Postgres or Citus.
        server_url: A Postgres server; for Citus its coordinator.
        upgraded: Whether its tables are made, too. A plain address can do without.
    """
    created = citus.new_database(server_url) if kind == "citus" else new_database(server_url, upgraded=False)
    async with created as url:
        if not upgraded and kind == PLAIN:
            yield Connection(kind, url, url)
            return
        async with KINDS[kind].prepare(url) as reached:
            yield Connection(kind, reached, url)
