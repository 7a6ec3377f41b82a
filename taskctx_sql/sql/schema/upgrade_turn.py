"""One at a time changes a schema, and no account that only reads and writes rows can keep it from its turn."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import citus, tables


def take(connection: sa.Connection, schema: str | None) -> None:
    """In a transaction that is open already, keep other schema changes away until its end.

    Everybody who may connect to a Postgres can hold an advisory lock. So where the version table is there already it is
    locked instead, in a way that goes with reading it, and which takes more than the right to read it.
    """
    if engines.is_sqlite(connection):
        engines.begin_write(connection)
        return
    name = connection.dialect.identifier_preparer.quote(tables.VERSION_TABLE)
    if schema is not None:
        name = f"{connection.dialect.identifier_preparer.quote(schema)}.{name}"
    # Citus would take a lock of a table on every machine, before it is told how to change several of them.
    lockable = not citus.is_installed(connection)
    if not (lockable and _is_there(connection, name)):
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(engines.UPGRADE_LOCK)))
    # Asked again: somebody else may have made it meanwhile, and whoever comes next takes no other lock.
    if lockable and _is_there(connection, name) and _may_write(connection, name):
        connection.exec_driver_sql(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE")


def _is_there(connection: sa.Connection, name: str) -> bool:
    return bool(connection.scalar(sa.select(sa.func.to_regclass(name).is_not(None))))


def _may_write(connection: sa.Connection, name: str) -> bool:
    """Whether this account could change the version; if not, it has nothing to change, or will be refused."""
    allowed: Any = sa.func.has_table_privilege(name, "UPDATE")
    return bool(connection.scalar(sa.select(allowed)))
