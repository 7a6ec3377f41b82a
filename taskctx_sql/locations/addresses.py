"""Addresses of stores, as far as they can be read without a database library."""

from __future__ import annotations

import contextlib
import os
import re
import string
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from taskctx_sql.errors import InvalidDatabaseUrlError
from taskctx_sql.locations.invisible import invisible_at, is_invisible, name_of

_SCHEME: Final = re.compile(
    r"((?:sqlite|postgres|postgresql)(?:\+(?:aiosqlite|asyncpg|psycopg|psycopg_async))?|json):/"
)
# What ends the path of an address, or is an escape in it.
_SPECIAL: Final = frozenset("%?")
_PLAIN: Final = frozenset(f"{string.ascii_letters}{string.digits}_.-/:@ ~,()[]")
# How Python represents bytes of a name that are not UTF-8.
_BYTES: Final = frozenset(map(chr, range(0xDC80, 0xDD00)))
# Not a plausible file name: a malformed address with a secret in it.
_SECRET_IN_PATH: Final = re.compile(r"(?i)(pass|pwd|key|secret|token)\w*\s*=|:[^/]+@")
# The beginning of an address, even one that was used as a path and lost a slash, or part of one for libpq.
_ANY_ADDRESS: Final = re.compile(
    r"\s*['\"]?(?:[A-Za-z]\w*=)?(?:[A-Za-z][A-Za-z0-9+.-]+:/|(?:jdbc:)?(?:postgres|mysql|sqlite|json)\w*:)|[^/\s:@]+:[^/@]+@|.*\bpassword\s*=",
    re.IGNORECASE,
)
# An address within other text, and what one of a server looks like that has no secret, or had one that is masked.
_IN_TEXT: Final = re.compile(r"([A-Za-z][\w+.-]*):(/\S*)")
_WITHOUT_SECRET: Final = re.compile(
    r"//(?:[\w.%+-]+(?::\*\*\*)?@)?(?:[\w.-]*|\[[\w:.%]+\])(?::\d+)?(?:/[\w.+$~%-]*)?(?:\?(?:[a-z_]+=[^&]*&?)*)?"
    r"['\"`),.:;\]]*"
)
# What could be the password of an address without a scheme.
_PASSWORD: Final = re.compile(r"(?<![\w:/])([^\s:/@'\"(]+:(?!/))\S*@")
_SECRET_PARAMETER: Final = re.compile(r"(?i)(\w*(?:pass|pwd|key|secret|token)\w*\s*=\s*)[^\s&;'\"]+")


def hidden(address: str) -> str:
    """Return what may be shown of an address that cannot be parsed: its scheme, if it is supported."""
    found = _SCHEME.match(address)
    return f"{found[1]}://***" if found else "***"


def refuse_invisible(address: str) -> None:
    """Raise InvalidDatabaseUrlError, which names it, if an address has an invisible character."""
    index = invisible_at(address)
    if index is None:
        return
    place = "begins with" if index == 0 else "ends with" if index == len(address) - 1 else "contains"
    character = address[index]
    # NUL is in no name.
    escape = "" if character == "\0" else f", or write {quote(character)} for it"
    reason = f"it {place} the invisible character {name_of(character)}: remove it{escape}"
    raise InvalidDatabaseUrlError(hidden(address), reason)


def has_secret(path: str) -> bool:
    """Whether a path looks like the rest of an address with a password in it."""
    return any(_SECRET_IN_PATH.search(form) is not None for form in (path, unquote(path)))


def shown_path(path: Path | str) -> str:
    """Return what may be shown of a path from an address."""
    return "***" if has_secret(str(path)) else str(path)


def without_secrets(text: str) -> str:
    """Return a text without what could be passwords of addresses in it."""
    text = _PASSWORD.sub(r"\1***@", _IN_TEXT.sub(_masked, text))
    return _SECRET_PARAMETER.sub(r"\1***", text)


def is_address(path: Path | str) -> bool:
    """Whether a path is really an address of a store."""
    return _ANY_ADDRESS.match(str(path)) is not None


def plain_folder(path: Path | str) -> Path:
    """Return the folder of a path, or raise InvalidDatabaseUrlError if it is an address or cannot be a folder's."""
    name: object = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(name, str):
        raise InvalidDatabaseUrlError("***", f"a path belongs here, and no {type(name).__name__}")
    if is_address(name):
        raise InvalidDatabaseUrlError(hidden(name), "a path belongs here, and no address")
    if not _can_be_named(name):
        raise InvalidDatabaseUrlError("***", _NO_NAME)
    return Path(path)


_NO_NAME: Final = "no folder has NUL or a lone surrogate in its name"


def _can_be_named(path: str) -> bool:
    try:
        return b"\x00" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def is_json_address(address: str) -> bool:
    """Whether an address names a folder of JSON files."""
    return address.startswith("json:")


def json_folder(address: str) -> Path:
    """Return the folder of a JSON address, ``json:///folder`` as SQLite's addresses have a file.

    One with a host, without a folder, or like the rest of an address with a password is an InvalidDatabaseUrlError.
    """
    refuse_invisible(address)
    scheme, _, path = address.partition(":///")
    folder = unquote(path.partition("?")[0])
    if scheme != "json" or not folder:
        raise InvalidDatabaseUrlError(hidden(address), "json: needs three slashes and a folder")
    if not _can_be_named(folder):
        raise InvalidDatabaseUrlError(hidden(address), _NO_NAME)
    if has_secret(folder) and not Path(folder).is_dir():
        reason = "its path looks like a part of an address with a password; if it is one, make the folder first"
        raise InvalidDatabaseUrlError(hidden(address), reason)
    return Path(folder)


def file_address(scheme: str, path: Path | str) -> str:
    """Return the address of a file or a folder with any characters in its name."""
    # Bytes of a name that are not UTF-8 are left out, since quote() refuses them.
    return f"{scheme}:///{_escaped(str(path), lambda letter: letter in _BYTES or letter in _PLAIN)}"


def json_address(folder: Path | str) -> str:
    """Return the address of a folder of JSON files, as people read it; `json_folder` returns the folder again."""
    return "json:///" + _escaped(str(folder), lambda letter: letter not in _SPECIAL and not is_invisible(letter))


def _escaped(path: str, may_stay: Callable[[str], bool]) -> str:
    inner = path.strip(" ")
    before, after = len(path) - len(path.lstrip(" ")), len(path.lstrip(" ")) - len(inner)
    return "%20" * before + "".join(c if may_stay(c) else quote(c, safe="") for c in inner) + "%20" * after


def anchored(address: str) -> str:
    """Return an address that means the same file or folder after a change of the working directory."""
    scheme, _, rest = address.partition(":///")
    path = unquote(rest.partition("?")[0])
    is_of_file = scheme.partition("+")[0] in ("sqlite", "json") and path != ""
    if not is_of_file or path.startswith((":memory:", "file:")) or Path(path).is_absolute():
        return address
    # Without a working directory, a relative path has no meaning.
    with contextlib.suppress(OSError):
        return f"{file_address(scheme, Path.cwd())}/{rest}"
    return address


def missing_file(address: str) -> Path | None:
    """Return the SQLite file of an address if it does not exist: opening would create it."""
    scheme, _, rest = address.partition(":///")
    path = unquote(rest.partition("?")[0])
    if scheme.partition("+")[0] != "sqlite" or not path or "\x00" in path or path.startswith((":memory:", "file:")):
        return None
    return None if Path(path).exists() else Path(path)


def _masked(found: re.Match[str]) -> str:
    scheme, rest = found.groups()
    is_path = scheme.lower().startswith(("sqlite", "json", "file"))
    shown = not has_secret(rest) if is_path else _WITHOUT_SECRET.fullmatch(rest) is not None
    return found[0] if shown else f"{scheme}://***"
