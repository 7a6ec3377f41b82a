"""Tables, views and migrations, row-level security, and distribution by Citus."""

from taskctx_sql.sql.schema.migrate import (
    check,
    current,
    downgrade,
    has_tables,
    head,
    row_level_security,
    set_up,
    upgrade,
)
from taskctx_sql.sql.schema.tables import contexts, files, models, revisions, runs, updates

__all__ = [
    "check",
    "contexts",
    "current",
    "downgrade",
    "files",
    "has_tables",
    "head",
    "models",
    "revisions",
    "row_level_security",
    "runs",
    "set_up",
    "updates",
    "upgrade",
]
