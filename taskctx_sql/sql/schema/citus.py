"""Citus, which spreads the tables of a Postgres over several machines: here by context, all rows of one on one machine.

The migrations know nothing of it: what each made is distributed at its end, and what they change later is changed
on every machine. Every key begins with the context; so nothing differs for those who read and write, except that saves
of several contexts do not share a statement.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import tables


def is_installed(connection: sa.Connection) -> bool:
    """Whether the database has the extension."""
    return not engines.is_sqlite(connection) and _is_there(connection, "pg_dist_partition")


def is_distributed(connection: sa.Connection, schema: str | None = None) -> bool:
    """Whether the tables in a schema, or in the search path, are spread over machines."""
    name = tables.contexts.name
    if schema is not None:
        name = f"{connection.dialect.identifier_preparer.quote(schema)}.{name}"
    return is_installed(connection) and _method(connection, name) == "h"


def prepare(connection: sa.Connection) -> None:
    """Let the migrations of a transaction use one connection to each machine, in which what they change is seen."""
    if is_installed(connection):
        connection.exec_driver_sql("SET LOCAL citus.multi_shard_modify_mode TO 'sequential'")


def distribute(connection: sa.Connection) -> None:
    """Distribute by context those tables of ours in the search path that are not yet, with what is in them.

    The version goes to every machine, so that a store can be opened on any.
    """
    if not is_installed(connection):
        return
    first = tables.contexts.name
    for name in (first, *(table for table in tables.metadata.tables if table != first)):
        if _is_there(connection, name) and _method(connection, name) != "h":
            beside = "none" if name == first else first
            call = "SELECT create_distributed_table(to_regclass(:name), 'context_id', colocate_with => :beside)"
            _ask(connection, call, name=name, beside=beside)
            # Its rows are on the other machines now.
            _ask(connection, "SELECT truncate_local_data_after_distributing_table(to_regclass(:name))", name=name)
    version = tables.VERSION_TABLE
    if _is_there(connection, version) and _method(connection, version) is None:
        _ask(connection, "SELECT create_reference_table(to_regclass(:name))", name=version)


def _is_there(connection: sa.Connection, name: str) -> bool:
    return bool(_ask(connection, "SELECT to_regclass(:name) IS NOT NULL", name=name))


def _method(connection: sa.Connection, name: str) -> str | None:
    """Return how a table is distributed: "h" is by a hash, "n" not at all, None that Citus does not know it."""
    known = "SELECT CAST(partmethod AS text) FROM pg_dist_partition WHERE logicalrelid = to_regclass(:name)"
    method: str | None = _ask(connection, known, name=name)
    return method


def _ask(connection: sa.Connection, statement: str, **parameters: Any) -> Any:
    return connection.scalar(sa.text(statement), parameters)
