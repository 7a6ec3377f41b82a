"""The original's JSON files: a store over them, and what reads and writes one."""

from taskctx_sql.json_files.batches import Batches, first_difference, read_history, write_history
from taskctx_sql.json_files.files import (
    chat_id,
    file_name,
    folder_name,
    is_folder,
    open_file,
    parse,
    replace_file,
    set_aside_from,
    signature_of,
    status_of,
    trackers,
)
from taskctx_sql.json_files.folder import chat_files
from taskctx_sql.json_files.recovery import Entry
from taskctx_sql.json_files.removal import erase_files, prune_folder
from taskctx_sql.json_files.store import JsonStore

__all__ = [
    "Batches",
    "Entry",
    "JsonStore",
    "chat_files",
    "chat_id",
    "erase_files",
    "file_name",
    "first_difference",
    "folder_name",
    "is_folder",
    "open_file",
    "parse",
    "prune_folder",
    "read_history",
    "replace_file",
    "set_aside_from",
    "signature_of",
    "status_of",
    "trackers",
    "write_history",
]
