"""The original's JSON files: a store over them, and what reads, writes and removes single files."""

from taskctx_sql.json_files.batches import Batches, first_difference, read_history, write_history
from taskctx_sql.json_files.files import is_folder, open_file, replace_file, signature_of, status_of
from taskctx_sql.json_files.folder import chat_files
from taskctx_sql.json_files.history_format import decode_text, parse, trackers
from taskctx_sql.json_files.names import chat_id, file_name, folder_name, set_aside_from
from taskctx_sql.json_files.recovery import Entry
from taskctx_sql.json_files.remove import erase_files, prune_folder
from taskctx_sql.json_files.store import JsonStore
