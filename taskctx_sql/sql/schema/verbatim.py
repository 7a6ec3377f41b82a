"""Statements of a migration, executed or printed word for word: nothing in them is a parameter or an escape."""

from __future__ import annotations

from alembic import op


def dialect_name() -> str:
    """Return "sqlite" or "postgresql", for the database that is migrated or that the statements are printed for."""
    return op.get_context().dialect.name


def execute(statement: str) -> None:
    """Execute a statement in the migration, or print it for `taskctx upgrade --sql`."""
    context = op.get_context()
    if context.as_sql:
        context.impl.static_output(f"{statement.strip()};")
    else:
        # With parameters, even none, psycopg would take each % for one.
        op.get_bind().exec_driver_sql(statement, execution_options={"no_parameters": True})
