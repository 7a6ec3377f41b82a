"""The migrations as SQL to read and to execute by other means; what `run_migrations` does, without a change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from io import StringIO
from typing import Final, TextIO

import sqlalchemy as sa

from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import citus, functions, row_security, tables
from taskctx_sql.sql.schema.checks import HEAD, check_encoding, found_revision, qualified, refuse_foreign
from taskctx_sql.sql.schema.migrations import UPGRADE_LOCK, can_lock_version_table

# Executed later, it could meet a database that was upgraded meanwhile.
_UNCHANGED: Final = """\
DO $unchanged$
BEGIN
    IF (SELECT max(version_num) FROM {table}) IS DISTINCT FROM '{found}' THEN
        RAISE EXCEPTION 'the schema is not at {found}, for which this was printed';
    END IF;
END
$unchanged$"""


def print_migrations(
    connection: sa.Connection,
    schema: str | None,
    configure: Callable[..., None],
    run: Callable[[], None],
    output: TextIO,
    row_level_security: bool | None = None,
) -> None:
    """Write the statements of an upgrade to the newest revision, in one transaction; nothing if there are none.

    The database is read, to know what it has, and not changed. ``configure`` and ``run`` are of alembic's ``context``,
    in its offline mode. ``row_level_security=None`` leaves it as it is.
    """
    if row_level_security:
        row_security.check_possible(connection)
    refuse_foreign(connection, schema)
    found = found_revision(connection, schema)
    if found != HEAD:
        check_encoding(connection)

    changes = StringIO()

    def write(statements: Iterable[str], to: TextIO = changes) -> None:
        to.writelines(f"{statement};\n\n" for statement in statements)

    if found != HEAD:
        configure(
            dialect_name=connection.dialect.name,
            output_buffer=changes,
            version_table=tables.VERSION_TABLE,
            version_table_schema=schema,
            # As after each migration of `run_migrations`.
            on_version_apply=lambda **_: write(_of_citus(connection)),
        )
        run()
    else:
        write(functions.repairs(connection, schema))
        write(_of_citus(connection))
    write(_of_row_level_security(connection, schema, row_level_security, migrated=found != HEAD))
    if changes.tell():
        write(_beginning(connection, schema, found), output)
        output.write(changes.getvalue())
        write(["COMMIT"], output)


def _beginning(connection: sa.Connection, schema: str | None, found: str | None) -> Iterator[str]:
    if engines.is_sqlite(connection):
        yield "BEGIN IMMEDIATE"
        return
    yield "BEGIN"
    version = qualified(connection, schema, tables.VERSION_TABLE)
    if can_lock_version_table(connection, version):
        yield f"LOCK TABLE {version} IN SHARE ROW EXCLUSIVE MODE"
    else:
        yield f"SELECT pg_advisory_xact_lock({UPGRADE_LOCK})"
    if schema is not None:
        quoted = connection.dialect.identifier_preparer.quote(schema)
        yield f"CREATE SCHEMA IF NOT EXISTS {quoted}"
        yield f"SET LOCAL search_path TO {quoted}"
    if found is not None:
        yield _UNCHANGED.format(table=version, found=found)
    if citus.is_installed(connection):
        yield citus.PREPARE


def _of_citus(connection: sa.Connection) -> Iterator[str]:
    if citus.is_installed(connection):
        yield from citus.statements()


def _of_row_level_security(
    connection: sa.Connection, schema: str | None, wanted: bool | None, *, migrated: bool
) -> Iterator[str]:
    """Yield what switches it on or off, and if it is on, what guards the tables and views of the migrations."""
    was_on = row_security.is_on(connection, schema)
    if wanted or (was_on and wanted is None):
        for name in row_security.names() if migrated else row_security.unguarded(connection, schema):
            yield from row_security.guard(name, qualified(connection, schema, name))
    elif was_on:
        for name in row_security.names():
            yield from row_security.unguard(name, qualified(connection, schema, name))
