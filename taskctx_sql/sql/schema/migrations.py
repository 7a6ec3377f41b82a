"""The migrations run on a connection: what migrations/env.py does, for the library and for alembic's own command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import citus, functions, row_security, tables
from taskctx_sql.sql.schema.checks import HEAD, check_encoding, exists, found_revision, qualified, refuse_foreign

# An option of a connection: how long a schema change waits for a lock at a time on Postgres.
LOCK_SECONDS: Final = "taskctx_lock_seconds"
# An arbitrary number, the same in every version of the library: an advisory lock for creating a schema.
UPGRADE_LOCK: Final = 0x7461736B637478


def run_migrations(
    connection: sa.Connection,
    schema: str | None,
    configure: Callable[..., None],
    run: Callable[[], None],
    row_level_security: bool | None = None,
) -> None:
    """Run migrations on a connection, in the transaction that it is in, or in a new one.

    ``configure`` and ``run`` are of alembic's ``context``. ``row_level_security=None`` leaves it as it is.
    """
    if not connection.in_transaction():
        with connection.begin():
            seconds = connection.get_execution_options().get(LOCK_SECONDS)
            if seconds is not None and not engines.is_sqlite(connection):
                connection.execute(sa.select(sa.func.set_config("lock_timeout", f"{int(seconds * 1000)}ms", True)))
            run_migrations(connection, schema, configure, run, row_level_security)
        return
    if row_level_security:
        row_security.check_possible(connection)
    take_upgrade_lock(connection, schema)
    path_before = None
    if schema is not None:
        quoted = connection.dialect.identifier_preparer.quote(schema)
        path_before = connection.scalar(sa.select(sa.func.current_setting("search_path")))
        connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {quoted}")
        connection.exec_driver_sql(f"SET LOCAL search_path TO {quoted}")
    refuse_foreign(connection, schema)
    if found_revision(connection, schema) != HEAD:
        check_encoding(connection)
    citus.prepare(connection)
    was_on = row_security.is_on(connection, schema)
    configure(
        connection=connection,
        target_metadata=tables.metadata,
        version_table=tables.VERSION_TABLE,
        version_table_schema=schema,
        include_name=is_ours,
        compare_type=True,
        compare_server_default=True,
        # After each migration: the next one may join its tables with tables that are distributed already.
        on_version_apply=lambda **_: citus.distribute(connection),
    )
    run()
    if found_revision(connection, schema) is None:
        # Downgraded to "base": alembic leaves its table behind, empty.
        sa.Table(tables.VERSION_TABLE, sa.MetaData(), schema=schema).drop(connection, checkfirst=True)
    if found_revision(connection, schema) == HEAD:
        for statement in functions.repairs(connection, schema):
            connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
    citus.distribute(connection)
    if row_level_security or (was_on and row_level_security is None):
        # Tables that the migrations created are guarded like the others.
        row_security.switch_on(connection, schema)
    elif was_on:
        row_security.switch_off(connection, schema)
    if path_before is not None:
        # The transaction may be the caller's, and continue.
        connection.execute(sa.select(sa.func.set_config("search_path", path_before, True)))


def take_upgrade_lock(connection: sa.Connection, schema: str | None) -> None:
    """Keep other schema changes out until the end of the transaction.

    Everybody who may connect to a Postgres can hold an advisory lock. So the version table is locked instead once it
    exists, in a mode that does not block its readers and needs more than the right to read it.
    """
    if engines.is_sqlite(connection):
        engines.begin_on_sqlite(connection)
        return
    name = qualified(connection, schema, tables.VERSION_TABLE)
    if not can_lock_version_table(connection, name):
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(UPGRADE_LOCK)))
    # Checked again: it may have been created meanwhile, and then the next upgrade locks only the table. An account
    # that may not write to it has nothing to change, or will be refused.
    may_write = sa.select(sa.func.has_table_privilege(name, "UPDATE"))
    if can_lock_version_table(connection, name) and connection.scalar(may_write):
        connection.exec_driver_sql(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE")


def can_lock_version_table(connection: sa.Connection, name: str) -> bool:
    """Whether the version table is there, and can be locked before anything else."""
    # Citus would lock the table on every machine before `citus.prepare` has set how several machines are changed.
    return not citus.is_installed(connection) and exists(connection, name)


def is_ours(name: str | None, kind: str, parents: Any) -> bool:
    """Whether it is a declared table or index; the indexes of the reports are declared in their migration only."""
    if kind == "index":
        return name in {index.name for table in tables.metadata.tables.values() for index in table.indexes}
    return kind != "table" or (name is not None and name in tables.metadata.tables)


def include_name(name: str | None, kind: str, parents: Mapping[str, str | None]) -> bool:
    """Return False for the library's tables, so that alembic does not propose to drop them.

    For ``context.configure(..., include_name=include_name)`` in an application's ``env.py``.

    Args:
        name: A name in the database.
        kind: What has the name: a schema, a table, a column, an index or a constraint.
        parents: Not used.

    Returns:
        False for tables whose names begin with ``taskctx_``, in every schema; True for everything else.
    """
    return kind != "table" or name is None or not name.startswith(tables.PREFIX)
