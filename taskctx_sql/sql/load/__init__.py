"""Reading: a context as it is or was, its updates page by page, and the list of contexts."""

from taskctx_sql.sql.load.as_of import in_revision
from taskctx_sql.sql.load.contexts import list_contexts
from taskctx_sql.sql.load.load import load, select_files
from taskctx_sql.sql.load.sqlite_reader import SqliteReader
from taskctx_sql.sql.load.updates import PAGE_SIZE, next_seq, read_page, update_columns
