"""What people type on the command line for a store: an address, or simply the path of a file or a folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from taskctx_sql.errors import InvalidDatabaseUrlError
from taskctx_sql.locations.addresses import file_address, hidden, is_address, refuse_invisible

# What SQLite files are called. Another name could be a mistyped word, so it has to exist already.
SQLITE_SUFFIXES: Final = (".db", ".db3", ".sqlite", ".sqlite3")
# A drive of Windows: no scheme of an address has a single letter.
_DRIVE: Final = re.compile(r"[A-Za-z]:[\\/]")


def command_line_address(text: str) -> str:
    r"""Return the address of a store for what was typed.

    An address stays as it is; whether it is valid turns out when it is opened. ``nightly.db``, ``./x/nightly.db``,
    ``~/nightly.db`` and ``C:\x\nightly.db`` are SQLite files, which need not exist, as is any other file that exists;
    a folder that exists, or a path that ends with a slash, is one of JSON files.

    Raises:
        InvalidDatabaseUrlError: It is neither an address nor such a path.
    """
    refuse_invisible(text)
    if not _DRIVE.match(text) and is_address(text):
        return text
    path = Path(text)
    if text.startswith("~"):
        try:
            path = path.expanduser()
        except RuntimeError:
            raise InvalidDatabaseUrlError(hidden(text), "the home folder at its beginning is not known") from None
    try:
        if path.is_dir() and text:
            return file_address("json", path)
        is_file = path.is_file() or path.suffix.lower() in SQLITE_SUFFIXES
    except OSError as error:
        raise InvalidDatabaseUrlError(hidden(text), f"it cannot be a path ({error.strerror})") from None
    if text.endswith(("/", "\\")):
        return file_address("json", path)
    if is_file:
        return file_address("sqlite", path)
    new = "a new SQLite file needs a name that ends with .db, a new folder one that ends with /"
    raise InvalidDatabaseUrlError(hidden(text), f"it is neither an address nor an existing file or folder; {new}")
