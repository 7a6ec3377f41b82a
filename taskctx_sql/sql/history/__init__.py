"""Revisions: their log, restoring one, and forking a context from one."""

from taskctx_sql.sql.history.compare import compare
from taskctx_sql.sql.history.copies import current_seqs, may_be_rewritten, restored_since
from taskctx_sql.sql.history.fork import fork
from taskctx_sql.sql.history.restore import Restored, restore
from taskctx_sql.sql.history.revision_log import list_revisions
