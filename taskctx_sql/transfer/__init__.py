"""Transferring contexts: JSON folders and aiecs' tables into a database, files out of it, and copies between stores.

    from taskctx_sql import transfer

    copied = await transfer.copy("json:///tasks", "sqlite:///tasks.db", user_id="u1")

Nothing that is there is overwritten, each function can be interrupted and repeated, and each compares both sides at
the end. From code without ``async``: ``blocking(transfer.copy(...))``.
"""

from taskctx_sql.model import ChatImport, Damage, Imported, Problem, TransferOutcome, TransferProgress, Transferred
from taskctx_sql.transfer.copy import copy
from taskctx_sql.transfer.export import export
from taskctx_sql.transfer.export_rows import EXPORTED, export_rows
from taskctx_sql.transfer.import_aiecs import import_aiecs
from taskctx_sql.transfer.import_folder import import_folder
from taskctx_sql.transfer.row_files import FORMATS, RowFormat

__all__ = [
    "EXPORTED",
    "FORMATS",
    "ChatImport",
    "Damage",
    "Imported",
    "Problem",
    "RowFormat",
    "TransferOutcome",
    "TransferProgress",
    "Transferred",
    "copy",
    "export",
    "export_rows",
    "import_aiecs",
    "import_folder",
]
