"""Checks of a database's schema and of its character set."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from taskctx_sql.errors import (
    ForeignSchemaError,
    InvalidArgumentError,
    SchemaMissingError,
    SchemaTooNewError,
    SchemaTooOldError,
    UnsupportedEncodingError,
)
from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import tables

# The migrations in order, so that opening a database need not read their files; a test compares them.
REVISIONS: Final = ("0001", "0002", "0003", "0004", "0005", "0006")
HEAD: Final = REVISIONS[-1]

# The bytes of a name on Postgres.
_LONGEST_NAME: Final = 63


def check(connection: sa.Connection, schema: str | None, database_url: str) -> None:
    """Check that a database's schema is the one that this version of the library needs.

    Raises:
        SchemaMissingError: There is none.
        SchemaTooOldError: It is older.
        SchemaTooNewError: It is newer.
        ForeignSchemaError: There are tables with the library's names that it did not create.
    """
    found = found_revision(connection, schema)
    if found == HEAD:
        return
    refuse_foreign(connection, schema, database_url)
    if found is None:
        raise SchemaMissingError(database_url)
    raise SchemaTooOldError(database_url, found, HEAD)


def refuse_foreign(connection: sa.Connection, schema: str | None, database_url: str | None = None) -> None:
    """Check that this version of the library can upgrade a database.

    Raises:
        SchemaTooNewError: Its schema is newer.
        ForeignSchemaError: There are tables with the library's names that it did not create.
    """
    database_url = database_url or engines.mask(str(connection.engine.url))
    found = found_revision(connection, schema)
    if found is not None:
        if found not in REVISIONS:
            raise SchemaTooNewError(database_url, found, HEAD)
        return
    names = sa.inspect(connection).get_table_names(schema=schema)
    foreign = sorted(name for name in names if name in tables.metadata.tables)
    if foreign:
        raise ForeignSchemaError(database_url, foreign)


def found_revision(connection: sa.Connection, schema: str | None) -> str | None:
    """Return the revision of a database's schema, or None if it has none."""
    check_name(connection, schema)
    if not sa.inspect(connection).has_table(tables.VERSION_TABLE, schema=schema):
        return None
    version = sa.table(tables.VERSION_TABLE, sa.column("version_num"), schema=schema)
    return connection.scalar(sa.select(version.c.version_num))


def has_tables(connection: sa.Connection) -> bool:
    """Whether the database has any table at all."""
    return bool(sa.inspect(connection).get_table_names())


def check_name(connection: sa.Connection, schema: str | None) -> None:
    """Check that the tables can be in a schema of this name.

    Raises:
        InvalidArgumentError: They cannot.
    """
    if schema is None:
        return
    if engines.is_sqlite(connection):
        raise InvalidArgumentError("schema", schema, "None: SQLite has no schemas")
    is_name = isinstance(schema, str) and schema and "\x00" not in schema
    # Postgres would cut a longer one, and then not find it.
    if not is_name or len(schema.encode("utf-8", "surrogatepass")) > _LONGEST_NAME or not _is_text(schema):
        raise InvalidArgumentError("schema", schema, f"the name of a schema, of at most {_LONGEST_NAME} bytes")


def _is_text(name: str) -> bool:
    return name.encode("utf-8", "replace").decode() == name


def check_encoding(connection: sa.Connection) -> None:
    """Check that a database can hold every text.

    Raises:
        UnsupportedEncodingError: It cannot.
    """
    statement = "PRAGMA encoding" if engines.is_sqlite(connection) else "SHOW server_encoding"
    found = str(connection.exec_driver_sql(statement).scalar())
    if found.upper().replace("-", "") != "UTF8":
        raise UnsupportedEncodingError(engines.mask(str(connection.engine.url)), found)
