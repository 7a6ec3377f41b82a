"""The migrations as SQL to read and to execute by other means: what `run_migrations` and `branch` do, without a change.

The library's own printing reads the database. An application's alembic prints without one, so what depends on the
database is decided when the statements are executed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from io import StringIO
from typing import TYPE_CHECKING, Final, TextIO

import sqlalchemy as sa

from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import citus, functions, row_security, tables
from taskctx_sql.sql.schema.checks import (
    HEAD,
    REVISIONS,
    check_encoding,
    found_revision,
    qualified,
    refuse_foreign,
    stored_revision,
)
from taskctx_sql.sql.schema.migrations import UPGRADE_LOCK, can_lock_version_table
from taskctx_sql.sql.schema.opt_ins import OptIns

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

# Executed later, it could meet a database that was upgraded meanwhile.
_UNCHANGED: Final = """\
DO $unchanged$
BEGIN
    IF (SELECT max(version_num) FROM {table}) IS DISTINCT FROM '{found}' THEN
        RAISE EXCEPTION 'the schema is not at {found}, for which this was printed';
    END IF;
END
$unchanged$"""


# Executes those of the statements whose table is there.
_WHERE_THERE: Final = """\
DO $there$
DECLARE statement text;
BEGIN
    FOR statement IN SELECT v.statement FROM (VALUES
        {rows}
    ) AS v(number, name, statement) WHERE to_regclass(v.name) IS NOT NULL AND {condition} ORDER BY v.number
    LOOP
        EXECUTE statement;
    END LOOP;
END
$there$"""
_IS_GUARDED: Final = "(SELECT relrowsecurity FROM pg_class WHERE oid = to_regclass('taskctx_contexts'))"
_CHECK_ENCODING: Final = """\
DO $encoding$
BEGIN
    IF current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'the database''s encoding is %, which cannot hold every text: it must be UTF8',
            current_setting('server_encoding');
    END IF;
END
$encoding$"""
_KEEP_PATH: Final = "SELECT set_config('taskctx.search_path', current_setting('search_path'), true)"
_RETURN_TO_PATH: Final = "SELECT set_config('search_path', current_setting('taskctx.search_path'), true)"


def print_migrations(
    connection: sa.Connection,
    schema: str | None,
    start: Callable[..., MigrationContext],
    output: TextIO,
    wanted: OptIns,
) -> None:
    """Write the statements of an upgrade to the newest revision, in one transaction; nothing if there are none.

    The database is read, to know what it has, and not changed. ``start`` takes options of alembic's, and returns a
    context that knows which migrations to print.
    """
    from taskctx_sql.sql.schema import branch

    wanted.check_possible(connection)
    refuse_foreign(connection, schema)
    found, stored = found_revision(connection, schema), stored_revision(connection, schema)
    if found != HEAD:
        check_encoding(connection)

    changes = StringIO()

    def write(statements: Iterable[str], to: TextIO = changes) -> None:
        to.writelines(f"{statement};\n\n" for statement in statements)

    if found != HEAD:
        context = start(
            dialect_name=connection.dialect.name,
            as_sql=True,
            starting_rev=found,
            output_buffer=changes,
            version_table=tables.VERSION_TABLE,
            version_table_schema=schema,
            # As after each migration of `run_migrations`.
            on_version_apply=(lambda **_: write(_of_citus(connection)),),
        )
        with branch.own_run(context):
            context.run_migrations()
    else:
        write(functions.repairs(connection, schema))
        write(_of_citus(connection))
    write(_of_row_level_security(connection, schema, wanted.row_level_security, migrated=found != HEAD))
    write(wanted.changes(connection, schema, downgraded=False))
    if changes.tell():
        write(_beginning(connection, schema, stored), output)
        if stored != found:
            version = qualified(connection, schema, tables.VERSION_TABLE)
            write([f"UPDATE {version} SET version_num = '{found}'"], output)  # noqa: S608  # our own names
        output.write(changes.getvalue())
        write(["COMMIT"], output)


def _beginning(connection: sa.Connection, schema: str | None, stored: str | None) -> Iterator[str]:
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
    if stored is not None:
        yield _UNCHANGED.format(table=version, found=stored)
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


def before_migration(schema: str | None, revision: str, dialect: sa.Dialect) -> Iterator[str]:
    """Yield what comes before a migration that an application's alembic prints, on Postgres."""
    if revision == REVISIONS[0]:
        yield f"SELECT pg_advisory_xact_lock({UPGRADE_LOCK})"
        yield _CHECK_ENCODING
    if schema is not None:
        quoted = dialect.identifier_preparer.quote(schema)
        yield f"CREATE SCHEMA IF NOT EXISTS {quoted}"
        yield _KEEP_PATH
        yield f"SET LOCAL search_path TO {quoted}"
    yield _where_there([(citus.CATALOG, citus.PREPARE)])


def after_migration(schema: str | None) -> Iterator[str]:
    """Yield what comes after a migration that an application's alembic prints, on Postgres."""
    yield _where_there((citus.CATALOG, statement) for statement in citus.statements())
    guards = ((name, statement) for name in row_security.names() for statement in row_security.guard(name, name))
    yield _where_there(guards, _IS_GUARDED)
    if schema is not None:
        yield _RETURN_TO_PATH


def _where_there(statements: Iterable[tuple[str, str]], condition: str = "true") -> str:
    """Return a statement that executes others, each with the table without which it is left out."""
    rows = (
        f"({number}, {_literal(name)}, {_literal(statement)})" for number, (name, statement) in enumerate(statements)
    )
    return _WHERE_THERE.format(rows=",\n        ".join(rows), condition=condition)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
