"""Reading: a context as it is or was, its updates page by page, and the list of contexts."""

from taskctx_sql.sql.load.as_of import in_revision
from taskctx_sql.sql.load.listing import labels_of, list_contexts
from taskctx_sql.sql.load.load import load, select_tracked
from taskctx_sql.sql.load.open_calls import read_calls_to_close, read_open_calls
from taskctx_sql.sql.load.pages import (
    PAGE_SIZE,
    Wanted,
    current_seqs,
    newest_update,
    read_data,
    read_updates,
    update_columns,
)
from taskctx_sql.sql.load.sqlite_reader import SqliteReader
from taskctx_sql.sql.load.state import KINDS, StateSelection, is_kept, read_state
