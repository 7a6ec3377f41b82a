"""Folders on disk: holding one against other writers, and making its names durable, as far as its file system can."""

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

logger = logging.getLogger(__name__)

# How long a folder that somebody else holds is waited for.
LOCK_SECONDS: Final = 15.0
# The longest pause between two tries.
_LONGEST_PAUSE: Final = 0.02

# What network and shared file systems say that cannot do it at all. Everything else is a failure.
_UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_CANNOT_LOCK: Final = _UNSUPPORTED | {errno.ENOLCK}

_warned_of: set[tuple[str, str]] = set()


class StillHeldError(Exception):
    """A lock was waited for as long as a thread may be kept for that: nothing was done, and it is to be tried again."""


class UnknownMoveError(OSError):
    """It is not known whether a file has its new name."""


def move(source: Path, target: Path) -> None:
    """Give a file another name, in the place of what has that name.

    A file system of a network may do so and lose the answer: then it is looked at which file is there.

    Raises:
        UnknownMoveError: It failed, and it cannot be seen what became of it.
        OSError: It failed, and the file has its old name.
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
    """Return what tells one state of a file from another, whatever its name is."""
    return (status.st_ino, status.st_size, status.st_mtime_ns)


def _has(path: Path, moved: tuple[int, int, int], error: OSError) -> bool:
    try:
        return identity(path.lstat()) == moved
    except FileNotFoundError:
        return False
    except OSError as failure:
        raise UnknownMoveError(failure.errno, f"{error.strerror}, and then {failure.strerror}", str(path)) from error


# What stands in a file's place.
_KINDS: Final = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def check_file(path: Path, status: os.stat_result) -> None:
    """See that what is at a path is a file: reading a FIFO or a device may never end.

    Raises:
        OSError: It is none; the message says what it is.
    """
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, and not a file: move it away", str(path))


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for their owner alone; one that is there stays as it is.

    Raises:
        OSError: It cannot be made.
    """
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_folder(folder.parent)
    # The names of files tell of chats and users.
    folder.mkdir(mode=0o700, exist_ok=True)


class Patience:
    """How long somebody waits for a lock: so many seconds, or until they are told to give up.

    Args:
        seconds: So many.
        on_thread: How many of them a thread is kept for that, once: after these, each lock that is still held is a
            `StillHeldError`. None: all.
    """

    def __init__(self, seconds: float = LOCK_SECONDS, *, on_thread: float | None = None) -> None:
        """Begin to wait now."""
        self._seconds = seconds
        self._began = time.monotonic()
        self._on_thread = on_thread
        self._given_up = threading.Event()

    def begin_anew(self) -> None:
        """Begin to wait for another lock."""
        self._began = time.monotonic()

    def stay(self) -> None:
        """Keep the thread from now on: something was done, and is not to be begun again."""
        self._on_thread = None

    def give_up(self) -> None:
        """Wait no longer. May be called from any thread."""
        self._given_up.set()

    def pause(self, seconds: float, address: str, reason: str) -> None:
        """Wait a moment before the next try.

        Raises:
            StoreUnavailableError: The time is over, or the waiting was given up.
            StillHeldError: The thread is to do something else meanwhile.
        """
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
    """Hold a folder against writers in other processes, where the platform and the file system can lock one.

    Raises:
        StoreUnavailableError: Somebody else held it for longer than ``patience`` allows.
        OSError: There is no such folder.
    """
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
            # Not by closing alone: a child that was forked meanwhile would go on holding it.
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
            # Never without LOCK_NB: a stopped process, or a stranger's, may hold it for good.
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
    """Make the names in a folder durable, where the platform and the file system can.

    Raises:
        OSError: The disk failed.
    """
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
    """Open a folder; None if it may be written to, and not be read, so that it cannot be opened."""
    try:
        return os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0))
    except PermissionError as error:
        _warn_once(folder, done, error, "let its owner read it")
        return None


def _warn_once(folder: Path, done: str, error: OSError, advice: str) -> None:
    if (str(folder), done) not in _warned_of:
        _warned_of.add((str(folder), done))
        logger.warning("the folder %s cannot be %s (%s): %s", folder, done, error.strerror, advice)
