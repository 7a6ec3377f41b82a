"""The schema of a database: created, brought up to date, read, and put under row-level security.

    from taskctx_sql import schema

    await schema.upgrade("sqlite:///tasks.db")

Most functions are async; ``blocking(schema.upgrade(...))`` calls one from sync code. They take a database's URL, or an
engine or connection of SQLAlchemy's. `upgrade_connection` and `downgrade_connection` are for migrations of an
application's own, as are the filters `include_name` and `include_object` for its autogenerate.

`tables` and `views` are what SQLAlchemy knows of the database, for ``store.query`` and for joins with an application's
models; `metadata` has the tables.
"""

from taskctx_sql.sql.schema import (
    current,
    downgrade,
    downgrade_connection,
    head,
    include_name,
    include_object,
    metadata,
    row_level_security,
    search_backlog,
    sums_backlog,
    tables,
    upgrade,
    upgrade_connection,
    upgrade_sql,
    views,
)

__all__ = [
    "current",
    "downgrade",
    "downgrade_connection",
    "head",
    "include_name",
    "include_object",
    "metadata",
    "row_level_security",
    "search_backlog",
    "sums_backlog",
    "tables",
    "upgrade",
    "upgrade_connection",
    "upgrade_sql",
    "views",
]
