"""The schema of a database: created, brought up to date, read, and put under row-level security.

    from taskctx_sql import schema

    await schema.upgrade("sqlite:///tasks.db")

All functions are async; ``blocking(schema.upgrade(...))`` calls one from sync code. They take a database's URL, or an
engine or connection of SQLAlchemy's. `tables` are the tables as SQLAlchemy declares them, for ``store.query``, and
`include_name` keeps them out of the migrations that alembic generates for an application in the same database.
"""

from taskctx_sql.sql.schema import (
    current,
    downgrade,
    head,
    include_name,
    row_level_security,
    tables,
    upgrade,
    upgrade_sql,
)

__all__ = ["current", "downgrade", "head", "include_name", "row_level_security", "tables", "upgrade", "upgrade_sql"]
