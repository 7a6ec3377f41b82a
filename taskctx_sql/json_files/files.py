"""History files on disk: opening, replacing, setting aside and removing them."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import BinaryIO, Final

from taskctx_sql.json_files import history_format
from taskctx_sql.locations import Patience as Patience
from taskctx_sql.locations import UnknownMoveError, check_file, identity, move
from taskctx_sql.locations import folder_lock as folder_lock
from taskctx_sql.locations import sync_folder as sync_folder

_OPEN_FLAGS: Final = ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")


def resolve(path: Path) -> Path:
    """Return the path of a file, or of the file that a link leads to."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading. Nothing else is opened, because reading a FIFO or a device may never end."""
    check_file(path, path.stat())
    # If a FIFO was put there meanwhile, this does not wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | sum(getattr(os, flag, 0) for flag in _OPEN_FLAGS))
    try:
        check_file(path, os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def status_of(path: Path | os.DirEntry[str]) -> os.stat_result | None:
    """Return a path's status, following links; None if it cannot be read."""
    try:
        return path.stat()
    except OSError:
        # It is missing, a broken or circular link, or in a folder that may not be entered.
        return None


def signature_of(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when somebody writes to a file; None if it is not there."""
    status = status_of(path)
    return None if status is None else identity(status)


def is_folder(path: Path) -> bool:
    """Whether a path is known to be a folder."""
    status = status_of(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def replace_file(path: Path, text: str) -> tuple[int, int, int]:
    """Replace a file's text atomically: a reader, or a crash, sees the old file or the new one.

    The name is durable after `sync_folder`. After an `OSError` the old file is there, except after `UnknownMoveError`.
    """
    with NewFile(path) as new:
        new.finish(text)
        signature = identity(new.temporary.stat())
        new.replace()
        return signature


class NewFile:
    """A temporary file, written piece by piece, that replaces another file; removed at the end if it did not.

    Only its owner can read a new file; one that replaces another keeps its permissions. A link stays a link: the file
    that it leads to is replaced.
    """

    def __init__(self, path: Path) -> None:
        self.path: Path = resolve(path)
        self.temporary: Path = self.path.with_name(f".taskctx-{secrets.token_hex(8)}.tmp")

    def __enter__(self) -> NewFile:
        descriptor = os.open(self.temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "w", encoding="utf-8", newline="")
        # Where permissions cannot be set, only the owner can read it.
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
        """Append text."""
        self._file.write(text)

    def finish(self, text: str) -> None:
        """Append text, and flush everything to the disk."""
        self._file.write(text)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def replace(self) -> None:
        """Replace the other file, after `finish`."""
        move(self.temporary, self.path)


def set_aside(path: Path) -> Path:
    """Rename an unreadable file to an unused name, and return that. Of a link, the link is renamed."""
    for number in range(1, 10_000):
        kept = path.with_name(f"{path.name}.unreadable-{number}")
        try:
            # Reserve the name first, because a rename overwrites. Hard links would do both, where there are any.
            os.close(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            continue
        try:
            move(path, kept)
        except UnknownMoveError:
            # The file may have its new name by now.
            raise
        except OSError:
            kept.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
        return kept
    raise FileExistsError(f"{path}.unreadable-1 to -9999 are all taken")


def remove(path: Path, patience: Patience | None = None) -> None:
    """Remove a history file in a locked folder; of a link, also the file that it leads to, if that is a history."""
    target = resolve(path)
    if target != path and _is_history(target):
        is_locked = target.parent.samefile(path.parent)
        with contextlib.nullcontext() if is_locked else folder_lock(target.parent, patience):
            target.unlink(missing_ok=True)
            sync_folder(target.parent)
    path.unlink(missing_ok=True)


def _is_history(path: Path) -> bool:
    try:
        with open_file(path) as file:
            history_format.parse(history_format.decode_text(file.read()))
    except (OSError, ValueError, RecursionError):
        # A linked file that is not a history is left alone.
        return False
    return True
