"""Addresses of stores, as far as they can be read without a database's library."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from taskctx_sql.errors import InvalidAddressError

_SCHEME: Final = re.compile(r"((?:sqlite|postgres|postgresql)(?:\+(?:aiosqlite|asyncpg))?|json):/")

# What ends the path of an address, or is an escape in it.
_SPECIAL: Final = re.compile(r"[%?]")

# How Python writes bytes of a name that are no UTF-8.
_BYTES: Final = frozenset(map(chr, range(0xDC80, 0xDD00)))

# Nobody means to name a file so: it is an address that was written wrongly, and has a secret in it.
_SECRET_IN_PATH: Final = re.compile(r"(?i)(pass|pwd|key|secret|token)\w*\s*=|:[^/]*@")


def hidden(address: str) -> str:
    """Return what may be shown of an address that cannot be taken apart: what kind it is, if it is one of ours."""
    found = _SCHEME.match(address)
    return f"{found[1]}://***" if found else "***"


def has_secret(path: str) -> bool:
    """Whether a path looks like the rest of an address with a password in it."""
    return _SECRET_IN_PATH.search(path) is not None


def is_json_address(address: str) -> bool:
    """Whether an address names a folder of JSON files."""
    return address.startswith("json:")


def json_folder(address: str) -> Path:
    """Return the folder that a JSON address names, ``json:///folder`` as SQLite's addresses name a file.

    Raises:
        InvalidAddressError: It names a host, or no folder.
    """
    scheme, _, path = address.partition(":///")
    folder = unquote(path.partition("?")[0])
    if scheme != "json" or not folder or "\x00" in folder:
        raise InvalidAddressError(hidden(address), "json: needs three slashes and a folder")
    return Path(folder)


def file_address(scheme: str, path: Path | str) -> str:
    """Return the address of a file or a folder, whatever characters its name has."""
    # What is no text in a name stands for its byte, and quote() takes no part of it.
    quoted = (letter if letter in _BYTES else quote(letter, safe="/:@ ~,()[]") for letter in str(path))
    return f"{scheme}:///{''.join(quoted)}"


def json_address(folder: Path | str) -> str:
    """Return the address of a folder of JSON files, as people read it; `json_folder` returns the folder again."""
    return "json:///" + _SPECIAL.sub(lambda found: quote(found[0]), str(folder))


def missing_file(address: str) -> Path | None:
    """Return the SQLite file that an address names if it is not there: opening would make it."""
    scheme, _, rest = address.partition(":///")
    path = unquote(rest.partition("?")[0])
    if scheme.partition("+")[0] != "sqlite" or not path or "\x00" in path or path.startswith((":memory:", "file:")):
        return None
    return None if Path(path).exists() else Path(path)
