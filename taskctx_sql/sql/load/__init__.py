"""Reading: a context as it is or was, its updates page by page, and the list of contexts."""

from taskctx_sql.sql.load.as_of import in_revision
from taskctx_sql.sql.load.load import load, select_tracked
from taskctx_sql.sql.load.pages import PAGE_SIZE, count_rows, list_contexts, next_seq, read_page, update_columns
from taskctx_sql.sql.load.sqlite_reader import SqliteReader
