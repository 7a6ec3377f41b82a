"""Revisions: their log, going back to one, and going on from one."""

from taskctx_sql.sql.history.fork import fork
from taskctx_sql.sql.history.restore import Restored
from taskctx_sql.sql.history.revision_log import compare, list_revisions

__all__ = [
    "Restored",
    "compare",
    "fork",
    "list_revisions",
]
