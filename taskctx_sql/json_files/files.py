"""The original's history files on disk: their names, their bytes, and how they are replaced."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from taskctx_sql import codec, limits
from taskctx_sql.errors import InvalidIdError
from taskctx_sql.locations import Patience as Patience
from taskctx_sql.locations import UnknownMoveError, check_file, identity, move
from taskctx_sql.locations import folder_lock as folder_lock
from taskctx_sql.locations import sync_folder as sync_folder
from taskctx_sql.model import ContextKey, ContextUpdate

PREFIX: Final = "context_history_"
SUFFIX: Final = ".json"
# The limit of a name on the file systems in use.
MAX_NAME_BYTES: Final = 255

# What could leave the folder or cannot be in a name, and what would be taken for an escape.
_UNSAFE: Final = re.compile(
    r'[\x00-\x1f\x7f/\\:*?"<>|]|%(?=[0-9A-Fa-f]{2})'
    if sys.platform == "win32"
    else r"[\x00-\x1f\x7f/\\]|%(?=[0-9A-Fa-f]{2})"
)
_SET_ASIDE: Final = re.compile(r"(.+)\.unreadable-([0-9]{1,4})", re.DOTALL)
_ESCAPED: Final = re.compile(r"%([0-9A-Fa-f]{2})")


def file_name(key: ContextKey) -> str:
    """Return the name of a context's file: the original's, with unsafe characters as ``%`` and two digits.

    Raises:
        InvalidIdError: The name would be longer than a file system takes.
    """
    name = f"{PREFIX}{_escaped(key.chat_id)}{SUFFIX}"
    size = len(name.encode())
    if size > MAX_NAME_BYTES:
        raise InvalidIdError(
            "chat_id", key.chat_id, f"its file name has {size} bytes, and a file system takes {MAX_NAME_BYTES}"
        )
    return name


def folder_name(user_id: str) -> str:
    """Return the name of a folder for a user's files, with unsafe characters escaped as in `file_name`."""
    # These two and the empty one would be other folders; no escape of another name looks like theirs.
    return {"": "%", ".": "%2E", "..": "%2E%2E"}.get(user_id, _escaped(user_id))


def _escaped(text: str) -> str:
    return _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", text)


def chat_id(name: str) -> str | None:
    """Return the chat_id that a file name stands for, or None if it is not a history file."""
    if not (name.startswith(PREFIX) and name.endswith(SUFFIX)):
        return None
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), name[len(PREFIX) : -len(SUFFIX)])


def set_aside_from(name: str) -> tuple[str, int] | None:
    """Return the name that a file had before `set_aside`, and its number; None if it was not set aside."""
    found = _SET_ASIDE.fullmatch(name)
    return None if found is None or chat_id(found[1]) is None else (found[1], int(found[2]))


def place_of(path: Path) -> Path:
    """Return where a file is: its own path, or where it leads to if it is a link."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading, and nothing else: reading a FIFO or a device may never end.

    Raises:
        OSError: It cannot be opened, or is no file; the message says what it is.
    """
    check_file(path, path.stat())
    # Somebody may put something else there meanwhile; then this does not wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | sum(getattr(os, flag, 0) for flag in _OPENING))
    try:
        check_file(path, os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


_OPENING: Final = ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")


def status_of(path: Path | os.DirEntry[str]) -> os.stat_result | None:
    """Return what the file system knows of what is at a path, through links; None if nothing can be known."""
    try:
        return path.stat()
    except OSError:
        # Gone by now, a link that leads nowhere or in circles, or into a place that may not be entered.
        return None


def signature_of(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when somebody writes to a file; None if it is not there."""
    status = status_of(path)
    return None if status is None else identity(status)


def is_folder(path: Path) -> bool:
    """Whether a folder is at a path, as far as that can be known."""
    status = status_of(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def text_of_bytes(content: bytes) -> str:
    """Return a file's text. Editors put a mark at its beginning, and may write it as UTF-16; JSON's readers know both.

    Raises:
        ValueError: It is no text.
    """
    return content.decode(json.detect_encoding(content))


def parse(text: str) -> list[ContextUpdate]:
    """Return the updates of a file; ``metadata`` may be missing.

    Raises:
        ValueError: It is not a history; the message names the entry.
    """
    entries = codec.read_file_text(text)
    if not isinstance(entries, list):
        raise ValueError(f"it holds a {type(entries).__name__}, not a list of updates")
    return [update_of(entry, f"entry {position}") for position, entry in enumerate(entries)]


def update_of(entry: Any, place: str) -> ContextUpdate:
    """Return the update that an entry of a file is; ``metadata`` may be missing.

    Raises:
        ValueError: It is none; the message calls it ``place``.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"{place} is a {type(entry).__name__}")
    missing = [name for name in ("timestamp", "update_type", "data") if name not in entry]
    if missing:
        raise ValueError(f"{place} has no {' and no '.join(missing)}")
    return ContextUpdate(entry["timestamp"], entry["update_type"], entry["data"], entry.get("metadata", {}))


def trackers(updates: Iterable[ContextUpdate]) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Return both trackers, rebuilt from the updates that tracking leaves in the history."""
    files: dict[str, dict[str, Any]] = {}
    models: list[dict[str, Any]] = []
    for update in updates:
        data = update.data
        if not isinstance(data, dict):
            continue
        if update.update_type == "file_operation" and isinstance(data.get("path"), str) and "operation" in data:
            source = update.metadata.get("source", "task") if isinstance(update.metadata, dict) else "task"
            files[data["path"]] = {
                "operation": data["operation"],
                "source": source,
                "timestamp": update.timestamp,
                "state": "active",
            }
        elif update.update_type == "model_usage" and "model_id" in data:
            models.append(dict(data))
    return files, models


def entry_text(update: ContextUpdate, place: str, *, strict: bool) -> str:
    """Return an update as it stands in the file, indented, without the comma.

    Raises:
        UnstorableValueError: In strict mode, naming the place within ``place``.
    """
    tree = update.to_dict()
    # Most are what JSON writes as they are, and finding that out costs a tenth of taking them apart.
    if codec.encode_plain(list(tree.values())) is None:
        tree = {name: codec.to_file_tree(value, f"{place}.{name}", strict=strict) for name, value in tree.items()}
    # A line break inside a string is always escaped, so each one here belongs to the layout.
    text = limits.check_text(codec.with_fresh_stack(lambda: json.dumps(tree, indent=2)), place)
    return "  " + text.replace("\n", "\n  ")


def whole_text(entries: Sequence[str]) -> str:
    """Return the file that holds these entry texts."""
    return "[\n" + ",\n".join(entries) + "\n]" if entries else "[]"


def with_appended(text: str, entries: Sequence[str]) -> str | None:
    """Return the file with entry texts added, or None if its layout is not the original's."""
    if text == "[]":
        return whole_text(entries)
    if not (text.startswith("[\n") and text.endswith("\n]")):
        return None
    return text[:-2] + ",\n" + ",\n".join(entries) + "\n]" if entries else text


def replace_file(path: Path, text: str) -> tuple[int, int, int]:
    """Put ``text`` in the place of a file, so that a reader or a crash sees the old one or the new one.

    The name is durable after `sync_folder`.

    Returns:
        The new file's `identity`.

    Raises:
        UnknownMoveError: The old one or the new one is there, and it cannot be seen which.
        OSError: The old one is there.
    """
    with NewFile(path) as new:
        new.write(text)
        new.finish()
        found = identity(new.temporary.stat())
        new.take_place()
        return found


class NewFile:
    """A file beside another one, written a piece at a time, to take its place; it is gone in the end if it did not.

    A new file is its owner's alone; one that was there keeps its permissions. A link stays one: the file takes the
    place of what it leads to.
    """

    def __init__(self, path: Path) -> None:
        """Take the path of the file whose place it is to take."""
        self.path = place_of(path)
        self.temporary = self.path.with_name(f".taskctx-{secrets.token_hex(8)}.tmp")

    def __enter__(self) -> NewFile:
        descriptor = os.open(self.temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "w", encoding="utf-8", newline="")
        # Where there are no permissions to give, it stays its owner's alone.
        with contextlib.suppress(OSError):
            mode = stat.S_IMODE(self.path.stat().st_mode)
            if mode != stat.S_IMODE(self.temporary.stat().st_mode):
                self.temporary.chmod(mode)
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self.temporary.unlink(missing_ok=True)

    def write(self, text: str) -> None:
        """Write on."""
        self._file.write(text)

    def finish(self) -> None:
        """All is written: bring it to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def take_place(self) -> None:
        """Take the name, after `finish`."""
        move(self.temporary, self.path)


def set_aside(path: Path) -> Path:
    """Give an unreadable file a new name, one that nothing has, and return it. Of a link, the link is renamed."""
    for number in range(1, 10_000):
        kept = path.with_name(f"{path.name}.unreadable-{number}")
        try:
            # The name is taken first, because a rename overwrites. A hard link would do both, where there are any.
            os.close(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            continue
        try:
            move(path, kept)
        except UnknownMoveError:
            # What has the name now may be the file.
            raise
        except OSError:
            kept.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
        return kept
    raise FileExistsError(f"{path}.unreadable-1 to -9999 are all taken")


def remove(path: Path, patience: Patience | None = None) -> None:
    """Remove a history file, in a folder that is locked; of a link, what it leads to, too, if that is a history."""
    place = place_of(path)
    if place != path and _is_history(place):
        is_locked = place.parent.samefile(path.parent)
        with contextlib.nullcontext() if is_locked else folder_lock(place.parent, patience):
            place.unlink(missing_ok=True)
            sync_folder(place.parent)
    path.unlink(missing_ok=True)


def _is_history(path: Path) -> bool:
    try:
        with open_file(path) as file:
            parse(text_of_bytes(file.read()))
    except (OSError, ValueError, RecursionError):
        # What somebody linked to is left alone unless it is ours.
        return False
    return True
