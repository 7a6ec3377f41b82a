"""Import, export and copy where one side is a database."""

from taskctx_sql.sql.transfer.copy import copy_database
from taskctx_sql.sql.transfer.export_files import compare_context, write_context
