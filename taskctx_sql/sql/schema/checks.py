"""Checks of a database's schema and of its character set."""

from __future__ import annotations

import re
from typing import Final

import sqlalchemy as sa

from taskctx_sql import errors
from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import tables

# The migrations in order, so that opening a database need not read their files; a test compares them.
REVISIONS: Final = tuple(f"taskctx_{number:04}" for number in range(1, 12))
HEAD: Final = REVISIONS[-1]

# The revisions' names before they had the prefix. A database keeps such a name until it is changed.
_OLD_NAMES: Final = {revision.removeprefix("taskctx_"): revision for revision in REVISIONS[:7]}

_NUMBER: Final = re.compile(r"(?:taskctx_)?(\d{4})")
# The end of a revision that programs of an older one can use: "taskctx_0012_from_0010" from those of 0010 on.
_USABLE_FROM: Final = re.compile(r"_from_(\d{4})$")

# The bytes of a name on Postgres.
_LONGEST_NAME: Final = 63


def check(connection: sa.Connection, schema: str | None, database_url: str) -> None:
    """Raise a SchemaError if this version of the library cannot use a database's schema."""
    found = found_revision(connection, schema)
    if found == HEAD or is_newer_and_usable(found):
        return
    refuse_foreign(connection, schema, database_url)
    if found is None:
        raise errors.SchemaMissingError(database_url, schema)
    raise errors.SchemaTooOldError(database_url, found, HEAD, schema)


def is_newer_and_usable(revision: str | None) -> bool:
    """Whether a revision is of a newer version of the library, and says that this one can use it as well."""
    oldest = _USABLE_FROM.search(revision or "")
    return revision not in REVISIONS and oldest is not None and oldest[1] in set(map(_number, REVISIONS))


def refuse_foreign(connection: sa.Connection, schema: str | None, database_url: str | None = None) -> None:
    """Raise a SchemaError if a database's schema is newer, or has tables that this library did not create."""
    database_url = database_url or engines.mask(connection.engine.url)
    found = found_revision(connection, schema)
    if found is not None:
        if found not in REVISIONS:
            raise errors.SchemaTooNewError(database_url, found, HEAD)
        return
    names = sa.inspect(connection).get_table_names(schema=schema)
    foreign = sorted(name for name in names if name in tables.metadata.tables)
    if foreign:
        raise errors.ForeignSchemaError(database_url, foreign)


def found_revision(connection: sa.Connection, schema: str | None) -> str | None:
    """Return the revision of a database's schema, by its name of today, or None if it has none."""
    stored = stored_revision(connection, schema)
    return None if stored is None else with_prefix(stored)


def stored_revision(connection: sa.Connection, schema: str | None) -> str | None:
    """Return the revision of a database's schema as it is written there, or None if it has none."""
    check_name(connection, schema)
    if not sa.inspect(connection).has_table(tables.VERSION_TABLE, schema=schema):
        return None
    return connection.scalar(sa.select(tables.version(schema).c.version_num))


def rename_revision(connection: sa.Connection, schema: str | None) -> None:
    """Let the database have the revision's name of today, which alembic looks for."""
    stored = stored_revision(connection, schema)
    if stored in _OLD_NAMES:
        connection.execute(sa.update(tables.version(schema)).values(version_num=_OLD_NAMES[stored]))


def with_prefix(revision: str) -> str:
    """Return today's name of a revision that is given by it, or by its number alone, as it was named once."""
    return _OLD_NAMES.get(revision, revision)


def is_at_least(found: str | None, revision: str) -> bool:
    """Whether a known revision, or None for none, is this one or a later one."""
    return found is not None and REVISIONS.index(found) >= REVISIONS.index(revision)


def _number(revision: str) -> str:
    found = _NUMBER.match(revision)
    assert found is not None, revision
    return found[1]


def has_tables(connection: sa.Connection) -> bool:
    """Whether the database has any table at all."""
    return bool(sa.inspect(connection).get_table_names())


def qualified(connection: sa.Connection, schema: str | None, name: str) -> str:
    """Return the name of one of the library's tables or views as SQL writes it."""
    return f"{connection.dialect.identifier_preparer.quote(schema)}.{name}" if schema else name


def exists(connection: sa.Connection, name: str) -> bool:
    """Whether a Postgres has a table or view of this name, as SQL writes it."""
    return bool(connection.scalar(sa.select(sa.func.to_regclass(name).is_not(None))))


def has_table(connection: sa.Connection, schema: str | None, name: str) -> bool:
    """Whether a database has a table of the library's by this name."""
    if engines.is_sqlite(connection):
        return sa.inspect(connection).has_table(name)
    return exists(connection, qualified(connection, schema, name))


def check_name(connection: sa.Connection, schema: str | None) -> None:
    """Raise InvalidArgumentError if the tables cannot be in a schema of this name."""
    if schema is None:
        return
    if engines.is_sqlite(connection):
        raise errors.InvalidArgumentError("schema", schema, "None: SQLite has no schemas")
    name = schema.encode("utf-8", "replace") if isinstance(schema, str) else b""
    # Postgres would cut a longer one, and then not find it.
    if not 0 < len(name) <= _LONGEST_NAME or b"\x00" in name or name.decode() != schema:
        raise errors.InvalidArgumentError("schema", schema, f"the name of a schema, of at most {_LONGEST_NAME} bytes")


def check_encoding(connection: sa.Connection) -> None:
    """Raise UnsupportedEncodingError if a database cannot hold every text."""
    statement = "PRAGMA encoding" if engines.is_sqlite(connection) else "SHOW server_encoding"
    found = str(connection.exec_driver_sql(statement).scalar())
    if found.upper().replace("-", "") != "UTF8":
        raise errors.UnsupportedEncodingError(engines.mask(connection.engine.url), found)
