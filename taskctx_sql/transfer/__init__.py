"""Transferring contexts: JSON folders into a database, back into files, and copies between any two stores.

    from taskctx_sql import transfer

    copied = await transfer.copy("json:///tasks", "sqlite:///tasks.db", user_id="u1")

Nothing that is there is overwritten, each function can be interrupted and repeated, and each compares both sides at
the end. From code without ``async``: ``blocking(transfer.copy(...))``.
"""

from taskctx_sql.model import ChatImport, Damage, Imported, Problem, TransferOutcome, TransferProgress, Transferred
from taskctx_sql.transfer.copy import copy
from taskctx_sql.transfer.export import export
from taskctx_sql.transfer.import_folder import import_folder

__all__ = [
    "ChatImport",
    "Damage",
    "Imported",
    "Problem",
    "TransferOutcome",
    "TransferProgress",
    "Transferred",
    "copy",
    "export",
    "import_folder",
]
