"""Removing history files permanently."""

from __future__ import annotations

from pathlib import Path

from taskctx_sql.json_files import files, names
from taskctx_sql.json_files.folder import histories
from taskctx_sql.locations import Patience, folder_lock
from taskctx_sql.model import ContextKey, Pruned, Retention


def prune_folder(folder: Path, retention: Retention, at: float, pruned: Pruned, patience: Patience) -> None:
    """Remove what a retention does not keep, but not files that were set aside. See `maintenance.prune`."""
    # Never start again from the beginning: that would count files twice.
    patience.stay()
    newest_first = sorted(histories(folder), key=lambda history: (-history.changed_at, history.path))
    for index, (path, _, saved_at) in enumerate(newest_first):
        too_old = retention.max_age is not None and saved_at < at - retention.max_age
        too_many = retention.max_contexts is not None and index >= retention.max_contexts
        if not (too_old or too_many):
            continue
        patience.begin_anew()
        size = _size(path, saved_at) if pruned.dry_run else _remove(path, saved_at, patience)
        if size is None:
            pruned.in_use += 1
            continue
        pruned.add({"files": 1, "bytes": size})
        pruned.by_age += too_old
        pruned.by_count += not too_old
    if pruned.rows and not pruned.dry_run:
        files.sync_folder(folder)


def _remove(path: Path, saved_at: float, patience: Patience) -> int | None:
    """Remove a file, and return how many bytes it had; None if somebody saved to it or removed it meanwhile."""
    with folder_lock(path.parent, patience):
        size = _size(path, saved_at)
        if size is not None:
            files.remove(path, patience)
        return size


def _size(path: Path, saved_at: float) -> int | None:
    status = files.status_of(path)
    return status.st_size if status is not None and status.st_mtime == saved_at else None


def erase_files(folder: Path, key: ContextKey, patience: Patience) -> dict[str, int]:
    """Remove a chat's file, and its files that were set aside. Return how many files, and their bytes."""
    name = names.file_name(key)
    counts = {"files": 0, "bytes": 0}
    if not folder.is_dir():
        return counts
    with folder_lock(folder, patience):
        # A link may lead to a folder with its own lock, after other files are removed already.
        patience.stay()
        for path in sorted(folder.iterdir()):
            original, _ = names.set_aside_from(path.name) or (path.name, 0)
            if original == name and not files.is_folder(path):
                status = files.status_of(path)
                counts["files"] += 1
                counts["bytes"] += 0 if status is None else status.st_size
                files.remove(path, patience)
        files.sync_folder(folder)
    return counts
