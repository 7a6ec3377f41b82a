"""Databases on a Postgres server that tests create, empty and drop."""

from __future__ import annotations

import sqlalchemy as sa

from taskctx_sql.errors import InvalidDatabaseUrlError, StoreFailedError
from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import tables


async def create_database(server_url: str, name: str) -> str:
    """Create a database on a server, and return its address.

    Raises:
        InvalidDatabaseUrlError: The address is not one of Postgres.
        StoreFailedError: The server could not be reached, or the account may not create databases.
    """
    url = engines.parse_url(server_url)
    if url.get_backend_name() != "postgresql":
        raise InvalidDatabaseUrlError(engines.mask(server_url), "a Postgres server belongs here")
    await _execute(server_url, "create a database for tests", f"CREATE DATABASE {name}")
    return sa.make_url(server_url).set(database=name).render_as_string(hide_password=False)


async def drop_database(server_url: str, name: str) -> None:
    """Drop a database that `create_database` created, even if somebody is connected to it."""
    await _execute(server_url, "drop the database of tests", f"DROP DATABASE {name} WITH (FORCE)")


async def empty_tables(database_url: str) -> None:
    """Remove all rows of our tables. Whoever left a transaction open is waited for, 10 seconds."""
    deletes = [f"DELETE FROM {table.name}" for table in reversed(tables.metadata.sorted_tables)]  # noqa: S608
    await _execute(database_url, "empty the tables after a test", "SET lock_timeout = '10s'", *deletes)


async def _execute(database_url: str, doing: str, *statements: str) -> None:
    engine = engines.create_engine(engines.parse_url(database_url)).execution_options(isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            for statement in statements:
                await connection.exec_driver_sql(statement)
    except Exception as error:
        raise StoreFailedError(doing, engines.mask(database_url), engines.reason(error)) from error
    finally:
        await engines.dispose(engine)
