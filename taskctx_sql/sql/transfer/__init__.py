"""Import, export and copy where one side is a database."""

from taskctx_sql.sql.transfer.copy import contexts, copy_database
from taskctx_sql.sql.transfer.export_files import compare_context, write_context
from taskctx_sql.sql.transfer.import_files import Files, import_chat, verify_chat

__all__ = [
    "Files",
    "compare_context",
    "contexts",
    "copy_database",
    "import_chat",
    "verify_chat",
    "write_context",
]
