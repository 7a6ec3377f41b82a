"""Opening a store: the database URL chooses the back end."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, NoReturn, TypeGuard

from taskctx_sql.concurrency import blocking, running_loop
from taskctx_sql.errors import InvalidArgumentError, InvalidDatabaseUrlError, StoreNotOpenedError
from taskctx_sql.json_files import JsonStore
from taskctx_sql.locations import hidden, is_json_address, json_folder, other_scheme
from taskctx_sql.maintenance import prune_periodically
from taskctx_sql.model import ConnectionOptions, Retention, check_interval
from taskctx_sql.stores import Store, open_third_store

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


def open_store(
    database_url: str | AsyncEngine,
    *,
    schema: str | None = None,
    strict: bool = False,
    retry_seconds: float | None = None,
    transaction_pooling: bool = False,
    read_url: str | None = None,
    connection: ConnectionOptions | None = None,
    open_seconds: float | None = None,
    retention: Retention | None = None,
    cleanup_interval: float = 3600,
) -> UnopenedStore:
    """Open the store at a database URL.

    ``async with open_store(...) as store`` and ``with open_store(...) as store`` close it at the end;
    ``store = await open_store(...)`` leaves that to you.

    Args:
        database_url: ``sqlite:///tasks.db``, ``postgresql://user@host/database`` (``postgresql+asyncpg://`` and
            ``postgresql+psycopg://`` name the driver), ``json:///folder`` (relative) or ``json:////folder``
            (absolute), an address of a scheme that an installed package opens (`StoreOpener`), or an SQLAlchemy
            ``AsyncEngine``, which you dispose yourself.
        schema: On Postgres, the schema of the tables.
        strict: Refuse values that would come back as their text, with `UnstorableValueError`.
        retry_seconds: How long to retry while the database is unreachable or the folder is locked; 15 by default.
        transaction_pooling: Whether Postgres is behind a pooler in transaction mode, such as pgbouncer;
            ``?transaction_pooling=true`` in the URL has the same effect.
        read_url: A read replica of the Postgres database. Loads and reports read from it, except what this store
            knows to be newer on the primary.
        connection: How to connect to Postgres: the pool, timeouts, TLS, several hosts, a password that expires.
        open_seconds: How long to retry opening while the database is unreachable; as ``retry_seconds`` by default.
        retention: Prune the store periodically while it is open; what the retention does not keep is removed for
            good. Requires ``async with`` or ``with``, which stop the pruning.
        cleanup_interval: The time in seconds between two prunings. The first one begins at once.

    Raises:
        InvalidArgumentError: The interval is not above 0. On opening: ``retry_seconds`` is negative or not a number,
            an argument of ``connection`` does not fit the store, or a store with a retention is awaited and not
            entered.
        InvalidDatabaseUrlError: On opening: the URL names no store, or ``read_url`` is not a replica of it.
        StorePluginError: On opening: the package that opens the scheme is broken.
        MissingDriverError: On opening: the driver is not installed.
        SchemaError: On opening: the schema is missing, older, newer or foreign, or the file is not a database.
        StoreError: On opening: the database could not be reached, or refused the connection.
    """
    options: dict[str, Any] = {"schema": schema, "strict": strict, "transaction_pooling": transaction_pooling}
    if read_url is not None:
        options["read_url"] = read_url
    if connection is not None:
        if not isinstance(connection, ConnectionOptions):
            raise InvalidArgumentError("connection", connection, "a ConnectionOptions")
        options["connection"] = connection
    if open_seconds is not None:
        options["open_seconds"] = open_seconds
    if retry_seconds is not None:
        options["retry_seconds"] = retry_seconds
    return UnopenedStore(database_url, options, retention, cleanup_interval)


class UnopenedStore:
    """What `open_store` returns: enter it with ``async with`` or ``with``, or await it, to get the `Store`."""

    def __init__(
        self, database_url: str | AsyncEngine, options: dict[str, Any], retention: Retention | None, interval: float
    ) -> None:
        """Keep the arguments; ``options`` are those of `SqlStore.open`."""
        if retention is not None:
            check_interval("cleanup_interval", interval)
        self._database_url, self._options = database_url, options
        self._retention, self._interval = retention, interval
        self._exits = AsyncExitStack()

    def __await__(self) -> Generator[Any, None, Store]:
        if self._retention is not None:
            allowed = "it only to a store that is entered with `async with` or `with`, which stop the pruning"
            raise InvalidArgumentError("retention", self._retention, allowed)
        return self._open().__await__()

    async def __aenter__(self) -> Store:
        store = await self._open()
        # The pruning ends before the store is closed, and the store is closed even if ending the pruning fails.
        self._exits.push_async_callback(store.close)
        if self._retention is not None:
            await self._exits.enter_async_context(prune_periodically(store, self._retention, interval=self._interval))
        return store

    async def __aexit__(self, *exc_info: object) -> None:
        await self._exits.aclose()

    def __enter__(self) -> Store:
        return blocking(self.__aenter__())

    def __exit__(self, *exc_info: object) -> None:
        blocking(self.__aexit__())

    if not TYPE_CHECKING:  # A type checker reports the missing method itself.

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("_"):
                raise AttributeError(name)
            raise StoreNotOpenedError(name)

    async def _open(self) -> Store:
        running_loop("open the store")
        url = self._database_url
        if isinstance(url, str) and is_json_address(url):
            if "read_url" in self._options:
                raise InvalidDatabaseUrlError(hidden(url), "a folder of files has no replica for read_url=")
            if "connection" in self._options:
                self._options["connection"].only((), "a folder of JSON files has no connections")
            known = {name: self._options[name] for name in ("strict", "retry_seconds") if name in self._options}
            return JsonStore(json_folder(url), **known)
        if isinstance(url, str) and (scheme := other_scheme(url)) is not None:
            others = dict(self._options)
            strict, retry_seconds = others.pop("strict"), others.pop("retry_seconds", None)
            return await open_third_store(url, scheme, strict=strict, retry_seconds=retry_seconds, others=others)
        if not isinstance(url, str) and not _is_engine(url):
            raise InvalidDatabaseUrlError("***", f"it is a {type(url).__name__}")
        # Imported here, so that a program without a database never imports SQLAlchemy.
        from taskctx_sql.sql.store import SqlStore

        return await SqlStore.open(url, **self._options)


def _is_engine(value: Any) -> TypeGuard[AsyncEngine]:
    return any(kind.__name__ == "AsyncEngine" for kind in type(value).__mro__)
