"""Connections to Postgres by asyncpg or psycopg."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import await_only

from taskctx_sql.concurrency import on_thread
from taskctx_sql.errors import InvalidArgumentError, InvalidDatabaseUrlError
from taskctx_sql.model import ConnectionOptions
from taskctx_sql.sql.engines import driver_settings, parameters
from taskctx_sql.sql.engines.addresses import is_pooled, mask

POOL_SIZE: Final = 10
MAX_OVERFLOW: Final = 10
CONNECT_SECONDS: Final = 10.0

# What psycopg's dialect and psycopg itself are told.
_NOT_OF_LIBPQ: Final = ("async_creator_fn", "context", "prepare_threshold")
# In milliseconds: Postgres accepts no more.
_LONGEST_TIMEOUT: Final = 2**31 - 1
# Of a connection: when it was made, by `time.monotonic`. Of an engine: how old its connections may be.
_MADE: Final = "taskctx_made"
_RECYCLE: Final = "taskctx_recycle"


def create_postgres_engine(
    url: sa.URL,
    options: ConnectionOptions,
    *,
    transaction_pooling: bool,
    connect_seconds: float | None,
    lock_seconds: float | None,
) -> AsyncEngine:
    """Return an engine for Postgres; see `create_engine`."""
    driver_settings.check_files(url)
    pooled = transaction_pooling or is_pooled(url)
    is_psycopg = url.drivername == parameters.PSYCOPG
    settings_of: driver_settings.SettingsOf = (
        driver_settings.psycopg_settings if is_psycopg else driver_settings.asyncpg_settings
    )
    seconds = driver_settings.connect_seconds(url, connect_seconds, CONNECT_SECONDS)
    server_url, settings = settings_of(url, pooled, seconds, _timeouts(options, lock_seconds, pooled=pooled))
    settings |= driver_settings.driver_options(url, options.driver_options)
    # It would ask each database for a type that the library does not use.
    more: dict[str, Any] = {"use_native_hstore": False} if is_psycopg else {}
    if options.pool_recycle is not None:
        more |= {"pool_recycle": options.pool_recycle, "execution_options": {_RECYCLE: options.pool_recycle}}
    engine = create_async_engine(
        server_url,
        hide_parameters=True,
        pool_size=options.pool_size or POOL_SIZE,
        max_overflow=MAX_OVERFLOW if options.max_overflow is None else options.max_overflow,
        connect_args=settings,
        **more,
    )
    if is_psycopg:
        _check_with_libpq(engine, url, settings)
    if callable(options.password):
        event.listen(engine.sync_engine, "do_connect", _asking(options.password))
    if options.pool_recycle is not None:
        event.listen(engine.sync_engine, "connect", _note_time)
    return engine


def _timeouts(options: ConnectionOptions, lock_seconds: float | None, *, pooled: bool) -> dict[str, str]:
    """Return the settings of the server for a connection. A pooler may refuse them, so there they are in the way."""
    seconds = {"statement_timeout": options.statement_timeout, "lock_timeout": options.lock_timeout}
    if pooled:
        for name, value in seconds.items():
            if value is not None:
                allowed = f"it without a pooler in transaction mode; with one, `ALTER ROLE ... SET {name} = ...`"
                raise InvalidArgumentError(name, value, allowed)
        return {}
    if seconds["lock_timeout"] is None:
        seconds["lock_timeout"] = lock_seconds
    return {
        name: str(int(min(max(1, value * 1000), _LONGEST_TIMEOUT)))
        for name, value in seconds.items()
        if value is not None
    }


def _check_with_libpq(engine: AsyncEngine, url: sa.URL, settings: dict[str, Any]) -> None:
    """Raise InvalidDatabaseUrlError for a parameter that the installed libpq does not have yet."""
    import psycopg

    given = {**engine.dialect.create_connect_args(engine.url)[1], **settings}
    known = {name: value for name, value in given.items() if name not in _NOT_OF_LIBPQ}
    try:
        psycopg.conninfo.make_conninfo(**known)
    except psycopg.ProgrammingError as error:
        raise InvalidDatabaseUrlError(mask(url), f"libpq says: {error}") from None


def _asking(password: Callable[[], Any]) -> Callable[..., None]:
    """Return a listener that asks for the password of each new connection."""

    def connect(dialect: Any, record: Any, arguments: list[Any], settings: dict[str, Any]) -> None:
        found = await_only(_result(password))
        if not isinstance(found, str) or not found:
            raise InvalidArgumentError("password", "***", "a function that returns a text that is not empty")
        settings["password"] = found

    return connect


async def _result(password: Callable[[], Any]) -> Any:
    if inspect.iscoroutinefunction(password) or inspect.iscoroutinefunction(type(password).__call__):
        return await password()
    # It may ask over the network.
    found = await on_thread(password)
    return await found if inspect.isawaitable(found) else found


def _note_time(connection: Any, record: Any) -> None:
    record.info[_MADE] = time.monotonic()


def most_idle(engine: AsyncEngine, most: int) -> int:
    """Return how many connections may be kept out of the engine's pool: one is left for others."""
    size: Callable[[], int] | None = getattr(engine.sync_engine.pool, "size", None)
    return most if size is None else max(0, min(most, size() - 1))


def is_old(engine: AsyncEngine, connection: PoolProxiedConnection) -> bool:
    """Whether a connection is so old that the pool would replace it."""
    limit, made = engine.get_execution_options().get(_RECYCLE), connection.info.get(_MADE)
    return limit is not None and made is not None and time.monotonic() - made > limit


def can_listen(engine: AsyncEngine, *, transaction_pooling: bool) -> bool:
    """Whether a connection of the engine can LISTEN, which a pooler in transaction mode does not support."""
    return engine.driver in ("asyncpg", "psycopg") and not transaction_pooling
