"""The files of SQLite databases: created private, checked before SQLite opens them, and told apart."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from taskctx_sql.errors import StoreFailedError
from taskctx_sql.locations import check_file
from taskctx_sql.sql.engines.addresses import file_of_uri, is_file, mask
from taskctx_sql.sql.engines.error_classes import CANNOT_OPEN, is_out_of_files

# SQLite opens these files beside a database, and would wait for a FIFO's writer forever.
_SUFFIXES: Final = ("", "-journal", "-wal", "-shm")

_creating: Final = threading.Lock()


def file_identity(path: str) -> tuple[int, int] | None:
    """Return a value that changes when another file takes the path; None if there is no file."""
    try:
        # Called for each save and each read; pathlib would take four times as long as the system call.
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_missing(url: sa.URL) -> bool:
    """Whether a URL is of a SQLite file that does not exist."""
    return is_file(url) and not Path(str(url.database)).exists()


def prepare_file(url: sa.URL) -> None:
    """Create the SQLite file of a URL if it does not exist, readable and writable by its owner only.

    Raises StoreFailedError if it can be neither created nor read: a failure to open it in aiosqlite leaves a thread
    behind. Raises OSError if no more files can be opened now.
    """
    path = Path(str(url.database)) if is_file(url) else file_of_uri(url)
    if path is None:
        return
    try:
        # One thread at a time, so that nobody here opens a file that is being created.
        with _creating:
            exists = path.exists()
            if not exists:
                _create_private(path)
        if exists and not os.access(path, os.R_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        for suffix in _SUFFIXES:
            _check(path, suffix)
    except OSError as error:
        # A new error: the path in this one may hold what the URL must not show.
        cause = OSError(error.errno, error.strerror)
        if is_out_of_files(error):
            raise cause from None
        raise StoreFailedError("open the file", mask(url), f"{error.strerror}: {CANNOT_OPEN}") from cause


def _check(path: Path, suffix: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        status = Path(f"{path}{suffix}").stat()
        try:
            check_file(path, status)
        except OSError as error:
            name = f"the file ending in {suffix}: " if suffix else ""
            raise OSError(error.errno, f"{name}{error.strerror}") from None


def _create_private(path: Path) -> None:
    # The target of a link, which would not be private otherwise.
    path = Path(os.path.realpath(path))
    # Never opened under its own name: closing a descriptor of a file drops all locks that the process has on it,
    # those of its other connections included, and then another process may remove the log that they use.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:
            # FAT and many network and shared folders have no links. Whoever creates the file, it is still empty.
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
