"""From a delta to rows: a request, what it does to the database, the batch of rows, and a writer for each engine."""

from taskctx_sql.sql.save.decide import save, save_all
from taskctx_sql.sql.save.request import SaveRequest
from taskctx_sql.sql.save.sqlite_writer import SqliteWriter
