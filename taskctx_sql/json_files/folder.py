"""The history files of a folder."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import NamedTuple

from taskctx_sql.errors import MissingHistoriesError
from taskctx_sql.json_files import files, names


class HistoryFile(NamedTuple):
    """A history file: its path, its chat, and when it was last changed."""

    path: Path
    chat_id: str
    changed_at: float


def histories(folder: Path) -> list[HistoryFile]:
    """Return the regular history files of a folder, and links to such; a folder that is missing counts as empty."""
    found = []
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            chat = names.chat_id(entry.name)
            status = None if chat is None else files.status_of(entry)
            if chat is not None and status is not None and stat.S_ISREG(status.st_mode):
                found.append(HistoryFile(Path(entry.path), chat, status.st_mtime))
    return found


def chat_files(folder: Path, chat_id: str | None = None) -> tuple[dict[str, list[Path]], list[str]]:
    """Return each chat's files, also those that were set aside, and the names of files that are not histories.

    A chat's files are in the order in which they were written; the chats are in the order of their last changes.
    """
    if not folder.is_dir():
        raise MissingHistoriesError(str(folder), "there is no such folder")
    chats: dict[str, list[tuple[int, Path]]] = {}
    ignored = []
    for path in sorted(folder.iterdir()):
        if files.is_folder(path) or path.name.startswith(".taskctx-"):
            continue
        name, number = names.set_aside_from(path.name) or (path.name, 10_000)
        chat = names.chat_id(name)
        if chat_id is not None and chat != chat_id:
            continue
        if chat is None:
            ignored.append(path.name)
        else:
            chats.setdefault(chat, []).append((number, path))
    if not chats:
        wanted = "context_history_*.json" if chat_id is None else f"file of chat {chat_id!r}"
        raise MissingHistoriesError(str(folder), f"it has no {wanted}")
    ordered = {chat: [path for _, path in sorted(numbered)] for chat, numbered in chats.items()}
    return dict(sorted(ordered.items(), key=lambda item: _changed_at(item[1][-1]))), ignored


def _changed_at(path: Path) -> float:
    status = files.status_of(path)
    return 0 if status is None else status.st_mtime
