"""The migrations run on a connection: for the library, and for alembic's own command in a checkout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import sqlalchemy as sa

from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import citus, functions, row_security, tables
from taskctx_sql.sql.schema.checks import (
    HEAD,
    check_encoding,
    exists,
    found_revision,
    qualified,
    refuse_foreign,
    rename_revision,
)
from taskctx_sql.sql.schema.filters import is_ours
from taskctx_sql.sql.schema.opt_ins import OptIns

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

# An option of a connection: how long a schema change waits for a lock at a time on Postgres.
LOCK_SECONDS: Final = "taskctx_lock_seconds"
# An arbitrary number, the same in every version of the library: an advisory lock for creating a schema.
UPGRADE_LOCK: Final = 0x7461736B637478
LEAVE_ALL: Final = OptIns()


def run_migrations(
    connection: sa.Connection,
    schema: str | None,
    start: Callable[..., MigrationContext],
    wanted: OptIns = LEAVE_ALL,
    *,
    only_upgrades: bool = False,
) -> None:
    """Run migrations on a connection, in the transaction that it is in, or in a new one.

    ``start`` takes options of alembic's, and returns a context that knows which migrations to run. With
    ``only_upgrades``, none is run at the newest revision.
    """
    if not connection.in_transaction():
        with connection.begin():
            seconds = connection.get_execution_options().get(LOCK_SECONDS)
            if seconds is not None and not engines.is_sqlite(connection):
                connection.execute(sa.select(sa.func.set_config("lock_timeout", f"{int(seconds * 1000)}ms", True)))
            run_migrations(connection, schema, start, wanted, only_upgrades=only_upgrades)
        return
    from taskctx_sql.sql.schema import branch

    with changing(connection, schema, wanted) as found:
        if found == HEAD and only_upgrades:
            return
        rename_revision(connection, schema)
        context = start(
            connection=connection,
            target_metadata=tables.metadata,
            version_table=tables.VERSION_TABLE,
            version_table_schema=schema,
            include_name=is_ours,
            compare_type=True,
            compare_server_default=True,
            # After each migration: the next one may join its tables with tables that are distributed already.
            on_version_apply=(lambda **_: citus.distribute(connection),),
        )
        with branch.own_run(context):
            context.run_migrations()
        if found_revision(connection, schema) is None:
            # Downgraded to "base": alembic leaves its table behind, empty.
            tables.version(schema).drop(connection, checkfirst=True)


@contextmanager
def changing(connection: sa.Connection, schema: str | None, wanted: OptIns = LEAVE_ALL) -> Iterator[str | None]:
    """Keep other schema changes out, and afterwards set right what is no part of a migration. Yields the revision.

    The connection is in a transaction. In the block, a schema that is given is the first one of the search path.
    """
    wanted.check_possible(connection)
    take_upgrade_lock(connection, schema)
    path_before = None
    if schema is not None:
        quoted = connection.dialect.identifier_preparer.quote(schema)
        path_before = connection.scalar(sa.select(sa.func.current_setting("search_path")))
        connection.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {quoted}")
        connection.exec_driver_sql(f"SET LOCAL search_path TO {quoted}")
    refuse_foreign(connection, schema)
    found = found_revision(connection, schema)
    if found != HEAD:
        check_encoding(connection)
    citus.prepare(connection)
    was_on = row_security.is_on(connection, schema)
    yield found
    if found_revision(connection, schema) == HEAD:
        for statement in functions.repairs(connection, schema):
            connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
    citus.distribute(connection)
    if wanted.row_level_security or (was_on and wanted.row_level_security is None):
        # Tables that the migrations created are guarded like the others.
        row_security.switch_on(connection, schema)
    elif was_on:
        row_security.switch_off(connection, schema)
    downgraded = found_revision(connection, schema) is None
    for statement in wanted.changes(connection, schema, downgraded=downgraded):
        connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
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
