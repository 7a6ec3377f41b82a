"""Citus, which distributes the tables of a Postgres over several machines: by context, each on one machine.

The migrations do not mention it: the tables that a migration creates are distributed after it, and later changes reach
every machine. Every key begins with the context, so reading and writing are the same, except that saves of several
contexts do not share a statement.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import tables
from taskctx_sql.sql.schema.checks import exists, qualified


def is_installed(connection: sa.Connection) -> bool:
    """Whether the database has the extension."""
    return not engines.is_sqlite(connection) and exists(connection, "pg_dist_partition")


def is_distributed(connection: sa.Connection, schema: str | None = None) -> bool:
    """Whether the tables in a schema, or in the search path, are distributed."""
    return is_installed(connection) and _method(connection, qualified(connection, schema, tables.contexts.name)) == "h"


def prepare(connection: sa.Connection) -> None:
    """Let the migrations of a transaction use one connection to each machine, which sees its own changes."""
    if is_installed(connection):
        connection.exec_driver_sql("SET LOCAL citus.multi_shard_modify_mode TO 'sequential'")


def distribute(connection: sa.Connection) -> None:
    """Distribute the library's tables in the search path by context, with the rows in them.

    The version table is copied to every machine, so that a store can be opened on any.
    """
    if not is_installed(connection):
        return
    first = tables.contexts.name
    for name in (first, *(table for table in tables.metadata.tables if table != first)):
        if exists(connection, name) and _method(connection, name) != "h":
            colocated = "none" if name == first else first
            call = "SELECT create_distributed_table(to_regclass(:name), 'context_id', colocate_with => :colocated)"
            _scalar(connection, call, name=name, colocated=colocated)
            # Its rows are on the workers now.
            _scalar(connection, "SELECT truncate_local_data_after_distributing_table(to_regclass(:name))", name=name)
    version = tables.VERSION_TABLE
    if exists(connection, version) and _method(connection, version) is None:
        _scalar(connection, "SELECT create_reference_table(to_regclass(:name))", name=version)


def _method(connection: sa.Connection, name: str) -> str | None:
    """Return how a table is distributed: "h" by hash, "n" as a reference table, None not at all."""
    statement = "SELECT CAST(partmethod AS text) FROM pg_dist_partition WHERE logicalrelid = to_regclass(:name)"
    method: str | None = _scalar(connection, statement, name=name)
    return method


def _scalar(connection: sa.Connection, statement: str, **parameters: Any) -> Any:
    return connection.scalar(sa.text(statement), parameters)
