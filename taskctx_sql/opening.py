"""One address, one store: which back end it is, and how it is opened and closed."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeGuard

from taskctx_sql.concurrency import blocking, running_loop
from taskctx_sql.errors import InvalidDatabaseUrlError, InvalidRetentionError
from taskctx_sql.json_files import JsonStore
from taskctx_sql.locations import hidden, is_json_address, json_folder
from taskctx_sql.maintenance import keep_house
from taskctx_sql.model import Retention, check_interval
from taskctx_sql.stores import Store

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine


def open_store(
    address: str | AsyncEngine,
    *,
    schema: str | None = None,
    strict: bool = False,
    retry_seconds: float | None = None,
    transaction_pooling: bool = False,
    read_url: str | None = None,
    retention: Retention | None = None,
    cleanup_interval: float = 3600,
) -> OpeningStore:
    """Open the store that an address names.

    ``async with open_store(...) as store`` and ``with open_store(...) as store`` close it at the end;
    ``store = await open_store(...)`` leaves that to you.

    Args:
        address: ``sqlite:///tasks.db``, ``postgresql://user@host/database``, ``json:///folder`` (relative) or
            ``json:////folder`` (absolute), or an SQLAlchemy ``AsyncEngine``, which you dispose yourself.
        schema: On Postgres, the schema that the tables are in.
        strict: Refuse values that would come back as their text, with `UnstorableValueError`.
        retry_seconds: How long a database that is away, or a folder that is locked, is tried again; 15 if not given.
        transaction_pooling: On Postgres behind a pooler in transaction mode, such as pgbouncer;
            ``?transaction_pooling=true`` in the address says the same.
        read_url: On Postgres, a replica of the database: loads and reports are read from there, except what this
            store knows to be newer on the primary.
        retention: Prune the store in the background while it is open: what a retention does not keep is removed for
            good. Only with ``async with`` or ``with``, which end the job.
        cleanup_interval: How often, in seconds; the first time at once.

    Raises:
        InvalidRetentionError: The interval is not above 0, or nobody would end the job.
        InvalidArgumentError: On opening: ``retry_seconds`` is no number, 0 or more.
        InvalidDatabaseUrlError: On opening: the address names no store, or ``read_url`` no replica of it.
        MissingDriverError: On opening: the driver is not installed.
        SchemaError: On opening: the schema is missing, older, newer or foreign, or the file is no database.
        StoreError: On opening: the database could not be reached, or refused.
    """
    options: dict[str, Any] = {"schema": schema, "strict": strict, "transaction_pooling": transaction_pooling}
    if read_url is not None:
        options["read_url"] = read_url
    if retry_seconds is not None:
        options["retry_seconds"] = retry_seconds
    opening = OpeningStore(address, options)
    if retention is not None:
        opening.keep(retention, cleanup_interval)
    return opening


class OpeningStore:
    """What `open_store` returns: to be entered, with or without ``async``, or awaited."""

    def __init__(self, address: str | AsyncEngine, options: dict[str, Any]) -> None:
        """Take the address, and what `SqlStore.open` takes beside it; nothing is opened yet."""
        self._address, self._options = address, options
        self._retention: tuple[Retention, float] | None = None
        self._house = AsyncExitStack()

    def keep(self, retention: Retention, interval: float) -> None:
        """Prune the store while it is open, every ``interval`` seconds."""
        check_interval(interval)
        self._retention = (retention, interval)

    def __await__(self) -> Generator[Any, None, Store]:
        if self._retention is not None:
            raise InvalidRetentionError("nobody would end the job: enter the store with `async with` or `with`")
        return self._open().__await__()

    async def __aenter__(self) -> Store:
        store = await self._open()
        # The job is ended before the store is closed, and the store is closed whatever becomes of the job.
        self._house.push_async_callback(store.close)
        if self._retention is not None:
            retention, interval = self._retention
            await self._house.enter_async_context(keep_house(store, retention, interval=interval))
        return store

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._house.aclose()

    def __enter__(self) -> Store:
        return blocking(self.__aenter__())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        blocking(self.__aexit__(kind, error, traceback))

    async def _open(self) -> Store:
        running_loop("open the store")
        if isinstance(self._address, str) and is_json_address(self._address):
            if "read_url" in self._options:
                raise InvalidDatabaseUrlError(hidden(self._address), "a folder of files has no replica for read_url=")
            known = {name: self._options[name] for name in ("strict", "retry_seconds") if name in self._options}
            return JsonStore(json_folder(self._address), **known)
        if not isinstance(self._address, str) and not _is_engine(self._address):
            raise InvalidDatabaseUrlError("***", f"it is a {type(self._address).__name__}")
        # Only now, so that a program without a database never pays for importing one.
        from taskctx_sql.sql.store import SqlStore

        return await SqlStore.open(self._address, **self._options)


def _is_engine(value: Any) -> TypeGuard[AsyncEngine]:
    return any(kind.__name__ == "AsyncEngine" for kind in type(value).__mro__)
