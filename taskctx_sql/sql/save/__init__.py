"""From a delta to rows: a request, the batch of rows it becomes, and a writer for each engine."""

from taskctx_sql.sql.save.request import SaveRequest
from taskctx_sql.sql.save.sqlite_writer import SqliteWriter

__all__ = [
    "SaveRequest",
    "SqliteWriter",
]
