"""From rows to a context: as it is, as it was, and the part of it that fits."""

from taskctx_sql.sql.load.as_of import in_revision
from taskctx_sql.sql.load.sqlite_reader import SqliteReader
from taskctx_sql.sql.load.statements import PAGE_SIZE, erase, list_contexts, load, next_seq, page, update_columns

__all__ = [
    "PAGE_SIZE",
    "SqliteReader",
    "erase",
    "in_revision",
    "list_contexts",
    "load",
    "next_seq",
    "page",
    "update_columns",
]
