"""Removing history files for good."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from taskctx_sql import json_files
from taskctx_sql.records import ContextKey
from taskctx_sql.retention import Pruned, Retention


def prune_folder(folder: Path, retention: Retention, at: float, pruned: Pruned) -> None:
    """Remove what a retention does not keep; files that were set aside stay. See `housekeeping.prune`.

    Raises:
        OSError: A file cannot be removed; those before it are gone.
    """
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        found = [
            (entry.stat().st_mtime, Path(entry.path))
            for entry in entries
            if json_files.chat_id(entry.name) is not None and entry.is_file()
        ]
    found.sort(key=lambda file: (-file[0], file[1]))
    for place, (saved_at, path) in enumerate(found):
        too_old = retention.max_age is not None and saved_at < at - retention.max_age
        too_many = retention.max_contexts is not None and place >= retention.max_contexts
        if not (too_old or too_many):
            continue
        size = path.stat().st_size if pruned.dry_run else _remove(path, saved_at)
        if size is None:
            pruned.in_use += 1
            continue
        pruned.add({"files": 1, "bytes": size})
        if too_old:
            pruned.by_age += 1
        else:
            pruned.by_count += 1
    if pruned.rows and not pruned.dry_run:
        json_files.sync_folder(folder)


def _remove(path: Path, saved_at: float) -> int | None:
    """Remove a file, and return how many bytes it had; None if somebody saved to it meanwhile."""
    with json_files.folder_lock(path.parent):
        status = path.stat()
        if status.st_mtime != saved_at:
            return None
        json_files.remove(path)
        return status.st_size


def erase_files(folder: Path, key: ContextKey) -> dict[str, int]:
    """Remove a chat's file, and those of it that were set aside; return how many, and their bytes.

    Raises:
        OSError: A file cannot be removed.
    """
    name = json_files.file_name(key)
    counts = {"files": 0, "bytes": 0}
    if not folder.is_dir():
        return counts
    with json_files.folder_lock(folder):
        for path in sorted(folder.iterdir()):
            was = json_files.set_aside_from(path.name) or (path.name, 0)
            if was[0] == name and not path.is_dir():
                counts["files"] += 1
                counts["bytes"] += path.stat().st_size if path.exists() else 0
                json_files.remove(path)
        json_files.sync_folder(folder)
    return counts
