"""Statements of a migration, executed or printed word for word: nothing in them is a parameter or an escape."""

from __future__ import annotations

from alembic.operations import Operations


def dialect_name(op: Operations) -> str:
    """Return "sqlite" or "postgresql", for the database that is migrated or that the statements are printed for."""
    return op.get_context().dialect.name


def execute(op: Operations, statement: str) -> None:
    """Execute a statement in the migration, or print it where the migrations are printed as SQL."""
    context = op.get_context()
    if context.as_sql:
        context.impl.static_output(f"{statement.strip()};")
    else:
        # With parameters, even none, psycopg would take each % for one.
        op.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})
