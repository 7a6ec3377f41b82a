"""SQLite files where nothing may be written: in an archive, a snapshot, another account's folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

# There is no log beside the file, so nothing that a reader would have to lock: SQLite reads the file as it is.
UNCHANGING: Final = "mode=ro&immutable=1"
# There is a log, and SQLite can read it if its index exists, too.
READING: Final = "mode=ro"


def options(path: str) -> str | None:
    """Return the query of the URI that opens a file which can only be read; None for one that can be written to.

    In its usual mode SQLite creates files beside the database even to read, and fails where it may not.
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


def address(path: str, options: str) -> str:
    """Return the URI of a file with these options."""
    return f"{Path(path).absolute().as_uri()}?{options}"


def is_read_only(cursor: Any) -> bool:
    """Whether the database of a driver's cursor can only be read."""
    cursor.execute("PRAGMA database_list")
    return options(str(cursor.fetchall()[0][2] or "")) is not None


# The options to open a file with, its inode, size and time of change.
State = tuple[str, int, int, int]


def state(path: str) -> State | None:
    """Return a value that changes when others write to a file which can only be read here; None for any other."""
    found_options = options(path)
    if found_options is None:
        return None
    found = Path(path).stat()
    return found_options, found.st_ino, found.st_size, found.st_mtime_ns
