"""Tables, views and migrations, row-level security, and distribution by Citus."""

from taskctx_sql.sql.schema.building import search_backlog, sums_backlog
from taskctx_sql.sql.schema.checks import HEAD, REVISIONS, check, has_tables
from taskctx_sql.sql.schema.connect import on_connection
from taskctx_sql.sql.schema.filters import include_name, include_object
from taskctx_sql.sql.schema.migrate import (
    current,
    downgrade,
    downgrade_connection,
    head,
    row_level_security,
    set_up,
    upgrade,
    upgrade_connection,
    upgrade_sql,
)
from taskctx_sql.sql.schema.migrations import run_migrations
from taskctx_sql.sql.schema.tables import contexts, files, metadata, models, revisions, runs, state, updates
