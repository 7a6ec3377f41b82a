"""Contexts from one place to another: import, export and copy."""

from taskctx_sql.transfer.transfer import copy, export, import_folder

__all__ = [
    "copy",
    "export",
    "import_folder",
]
