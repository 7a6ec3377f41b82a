"""Citus, which distributes the tables of a Postgres over several machines: by context, each on one machine.

The migrations do not mention it: the tables that a migration creates are distributed after it, and later changes reach
every machine. Every key begins with the context, so reading and writing are the same, except that only saves to one
machine share a call.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa

from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import functions, tables
from taskctx_sql.sql.schema.checks import exists, qualified

# The table that only a database with the extension has.
CATALOG: Final = "pg_dist_partition"
PREPARE: Final = "SET LOCAL citus.multi_shard_modify_mode TO 'sequential'"

# "h" is distributed by hash; a reference table is "n".
_IS_DISTRIBUTED: Final = "SELECT FROM pg_dist_partition WHERE logicalrelid = oid AND partmethod = 'h'"
_LOOK: Final = sa.text(
    f"SELECT EXISTS (SELECT FROM pg_class WHERE oid = to_regclass(:name) AND EXISTS ({_IS_DISTRIBUTED}))"
)


def is_installed(connection: sa.Connection) -> bool:
    """Whether the database has the extension."""
    return not engines.is_sqlite(connection) and exists(connection, CATALOG)


def is_distributed(connection: sa.Connection, schema: str | None = None) -> bool:
    """Whether the tables in a schema, or in the search path, are distributed."""
    return is_installed(connection) and bool(
        connection.scalar(_LOOK, {"name": qualified(connection, schema, tables.contexts.name)})
    )


def prepare(connection: sa.Connection) -> None:
    """Let the migrations of a transaction use one connection to each machine, which sees its own changes."""
    if is_installed(connection):
        connection.exec_driver_sql(PREPARE)


def distribute(connection: sa.Connection) -> None:
    """Distribute the library's tables in the search path by context, with the rows in them, and its functions."""
    if is_installed(connection):
        for statement in statements():
            connection.exec_driver_sql(statement)


def statements() -> Iterator[str]:
    """Yield what distributes the tables and functions that are there and not distributed yet.

    The version table is copied to every machine, so that a store can be opened on any. A call of a function that saves
    goes to the machine that has the context.
    """
    first = tables.contexts.name
    for name in (first, *(table for table in tables.metadata.tables if table != first)):
        colocated = "none" if name == first else first
        yield (
            f"SELECT create_distributed_table(oid, 'context_id', colocate_with => '{colocated}') FROM pg_class"
            f" WHERE oid = to_regclass('{name}') AND NOT EXISTS ({_IS_DISTRIBUTED})"
        )
        # Its rows are on the workers now.
        yield (
            f"SELECT truncate_local_data_after_distributing_table(oid) FROM pg_class"
            f" WHERE oid = to_regclass('{name}') AND pg_relation_size(oid) > 0 AND EXISTS ({_IS_DISTRIBUTED})"
        )
    yield (
        f"SELECT create_reference_table(oid) FROM pg_class WHERE oid = to_regclass('{tables.VERSION_TABLE}')"
        " AND NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = oid)"
    )
    for function in functions.shipped():
        is_called = function.name in functions.ENTRY_POINTS
        where = f", '$1', colocate_with => '{first}'" if is_called else ""
        missing = " AND distribution_argument_index IS NOT NULL" if is_called else ""
        yield (
            f"SELECT create_distributed_function(oid::regprocedure{where}) FROM pg_proc"
            f" WHERE oid = to_regprocedure('{function.signature}') AND NOT EXISTS (SELECT FROM pg_dist_object d"
            f" WHERE d.classid = 'pg_proc'::regclass AND d.objid = pg_proc.oid{missing})"
        )
