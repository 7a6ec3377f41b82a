"""The lock of schema changes, which accounts that only read and write rows cannot take."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import citus, tables

# An arbitrary number, the same in every version of the library: an advisory lock for creating a schema.
LOCK: Final = 0x7461736B637478


def take(connection: sa.Connection, schema: str | None) -> None:
    """Keep other schema changes out until the end of the transaction.

    Everybody who may connect to a Postgres can hold an advisory lock. So the version table is locked instead once it
    exists, in a mode that does not block its readers and needs more than the right to read it.
    """
    if engines.is_sqlite(connection):
        engines.begin_on_sqlite(connection)
        return
    name = connection.dialect.identifier_preparer.quote(tables.VERSION_TABLE)
    if schema is not None:
        name = f"{connection.dialect.identifier_preparer.quote(schema)}.{name}"
    # Citus would lock the table on every machine before `citus.prepare` has set how several machines are changed.
    lockable = not citus.is_installed(connection)
    if not (lockable and _exists(connection, name)):
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
    # Checked again: it may have been created meanwhile, and then the next upgrade locks only the table.
    if lockable and _exists(connection, name) and _may_write(connection, name):
        connection.exec_driver_sql(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE")


def _exists(connection: sa.Connection, name: str) -> bool:
    return bool(connection.scalar(sa.select(sa.func.to_regclass(name).is_not(None))))


def _may_write(connection: sa.Connection, name: str) -> bool:
    """Whether this account may change the version; if not, it has nothing to change, or will be refused."""
    allowed: Any = sa.func.has_table_privilege(name, "UPDATE")
    return bool(connection.scalar(sa.select(allowed)))
