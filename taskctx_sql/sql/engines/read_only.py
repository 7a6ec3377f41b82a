"""SQLite files in places where nothing may be written: an archive, a snapshot, another account's folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

# There is no log beside the file, so nothing that a reader would have to lock: it is read as it is.
UNCHANGING: Final = "mode=ro&immutable=1"
# There is one, and SQLite reads it if its index is there, too.
READING: Final = "mode=ro"


def options(path: str) -> str | None:
    """Return how a file is opened that may only be read, as the query of a URI; None for one that may be written to.

    In its mode of writing, SQLite makes files beside the database even to read, and fails where it may not.
    """
    if not path:
        return None
    file = Path(os.path.realpath(path))
    if not file.exists() or (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
        return None
    try:
        has_log = file.with_name(f"{file.name}-wal").stat().st_size > 0
    except OSError:
        has_log = False
    return READING if has_log else UNCHANGING


def address(path: str, how: str) -> str:
    """Return the URI of a file that is opened so."""
    return f"{Path(path).absolute().as_uri()}?{how}"


def is_read_only(cursor: Any) -> bool:
    """Whether the database of a driver's cursor may only be read."""
    cursor.execute("PRAGMA database_list")
    return options(str(cursor.fetchall()[0][2] or "")) is not None


# How a file is opened, which one it is, its size and when it was written to.
State = tuple[str, int, int, int]


def state(path: str) -> State | None:
    """Return what tells if others changed a file that may only be read here; None for one that may be written to."""
    how = options(path)
    if how is None:
        return None
    found = Path(path).stat()
    return how, found.st_ino, found.st_size, found.st_mtime_ns
