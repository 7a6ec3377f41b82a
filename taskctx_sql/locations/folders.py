"""Folders on disk: lock them against other writers, and make their names durable, as far as the file system can."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import random
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from taskctx_sql.errors import StoreUnavailableError
from taskctx_sql.locations.addresses import json_address

logger: logging.Logger = logging.getLogger(__name__)

# How long to wait for a folder that another process has locked.
LOCK_SECONDS: Final = 15.0
# The longest pause between two attempts.
_LONGEST_PAUSE: Final = 0.02

# Errors of network and shared file systems that do not support it. Any other error is a failure.
_UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_CANNOT_LOCK: Final = _UNSUPPORTED | {errno.ENOLCK}

_warned_of: set[tuple[str, str]] = set()


class StillHeldError(Exception):
    """A lock was not free within the time that a thread may wait. Nothing was done; try again."""


class UnknownMoveError(OSError):
    """It is unknown whether a file was renamed."""


def move(source: Path, target: Path) -> None:
    """Rename a file, replacing what has the new name. After any error but UnknownMoveError it has its old name.

    A network file system may rename it and lose the response; then the files are compared.
    """
    moved = identity(source.lstat())
    try:
        source.replace(target)
    except OSError as error:
        if _has(target, moved, error):
            return
        if _has(source, moved, error):
            raise
        raise UnknownMoveError(error.errno, f"{error.strerror}; it is at neither place", str(target)) from error


def identity(status: os.stat_result) -> tuple[int, int, int]:
    """Return what distinguishes one state of a file from another, whatever its name."""
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def _has(path: Path, moved: tuple[int, int, int], error: OSError) -> bool:
    try:
        return identity(path.lstat()) == moved
    except FileNotFoundError:
        return False
    except OSError as failure:
        raise UnknownMoveError(failure.errno, f"{error.strerror}, and then {failure.strerror}", str(path)) from error


# What may be in place of a file.
_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def check_file(path: Path, status: os.stat_result) -> None:
    """Raise OSError, with what it is, if a path is no regular file: reading a FIFO or a device may never end."""
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, and not a file: move it away", str(path))


def make_folder(folder: Path) -> None:
    """Create a folder and missing parents, accessible to their owner only. An existing folder stays as it is."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_folder(folder.parent)
    # The names of files reveal chats and users.
    folder.mkdir(mode=0o700, exist_ok=True)


class Patience:
    """How long to wait for a lock: a number of seconds, or until `give_up` is called.

    ``on_thread`` is for how many of them a thread may be blocked, None for all of them; after that, each lock that is
    still held raises `StillHeldError`.
    """

    def __init__(self, seconds: float = LOCK_SECONDS, *, on_thread: float | None = None) -> None:
        self._seconds = seconds
        self._began = time.monotonic()
        self._on_thread = on_thread
        self._given_up = threading.Event()

    def begin_anew(self) -> None:
        """Start waiting for another lock."""
        self._began = time.monotonic()

    def stay(self) -> None:
        """Block the thread from now on: the work has started, and must not be repeated."""
        self._on_thread = None

    def give_up(self) -> None:
        """Stop waiting. May be called from any thread."""
        self._given_up.set()

    def pause(self, seconds: float, address: str, reason: str) -> None:
        """Wait a moment before the next attempt, or raise StoreUnavailableError or StillHeldError."""
        waited = time.monotonic() - self._began
        if waited >= self._seconds or self._given_up.is_set():
            raise StoreUnavailableError("lock the folder", address, waited, reason)
        if self._on_thread is not None:
            if self._on_thread <= 0:
                raise StillHeldError
            self._on_thread -= seconds
        self._given_up.wait(min(seconds, self._seconds - waited))


@contextlib.contextmanager
def folder_lock(folder: Path, patience: Patience | None = None) -> Iterator[None]:
    """Lock a folder against writers in other processes, where the platform and the file system support it."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    descriptor = _open(folder, "locked")
    if descriptor is None:
        yield
        return
    try:
        _lock(descriptor, folder, patience or Patience())
        try:
            yield
        finally:
            # Closing alone would not unlock it if a child was forked meanwhile.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path, patience: Patience) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    pause = 0.0005
    while True:
        try:
            # Always with LOCK_NB: a stopped process, or one of another program, may hold it forever.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in _CANNOT_LOCK:
                raise
            _warn_once(folder, "locked", error, "let only one process write to it")
            return
        patience.pause(
            random.uniform(0.5, 1) * pause,
            json_address(folder),
            f"another process holds the lock of {folder}; `fuser -v` names it: end it, or let it go on",
        )
        pause = min(pause * 1.5, _LONGEST_PAUSE)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the platform and the file system support it."""
    if sys.platform == "win32":
        return
    descriptor = _open(folder, "synced")
    if descriptor is None:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        _warn_once(folder, "synced", error, "a power cut may take back the last saves")
    finally:
        os.close(descriptor)


def _open(folder: Path, done: str) -> int | None:
    """Open a folder; None if it is writable but not readable, and so cannot be opened."""
    try:
        return os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0))
    except PermissionError as error:
        _warn_once(folder, done, error, "let its owner read it")
        return None


def _warn_once(folder: Path, done: str, error: OSError, advice: str) -> None:
    if (str(folder), done) not in _warned_of:
        _warned_of.add((str(folder), done))
        logger.warning("the folder %s cannot be %s (%s): %s", folder, done, error.strerror, advice)
