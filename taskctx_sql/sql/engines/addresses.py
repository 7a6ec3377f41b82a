"""Addresses of databases: taken apart, checked, and shown without what is nobody's business.

An address is shown only if it was taken apart, part by part; of any other only its kind is shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote_plus, unquote

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError
from sqlalchemy.util import asbool

from taskctx_sql.errors import InvalidDatabaseUrlError
from taskctx_sql.locations import has_secret, hidden

_DRIVERS: Final = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}

TRANSACTION_POOLING: Final = "transaction_pooling"

# What the drivers understand, and how a text becomes what they take.
_SQLITE_PARAMETERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "cached_statements": int,
    "check_same_thread": asbool,
    "detect_types": int,
    "isolation_level": str,
    "timeout": float,
    "uri": asbool,
}
_SQLITE_URI_PARAMETERS: Final = ("cache", "immutable", "mode", "nolock", "psow", "vfs")


def _ports(text: str) -> list[int]:
    """Return the ports of several hosts, with commas between them."""
    found = [int(port) for port in text.split(",")]
    if not all(0 < port < 65_536 for port in found):
        raise ValueError(text)
    return found


_POSTGRES_NUMBERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "command_timeout": float,
    "connect_timeout": float,
    "max_cacheable_statement_size": int,
    "max_cached_statement_lifetime": int,
    "prepared_statement_cache_size": int,
    "statement_cache_size": int,
    "timeout": float,
}
_POSTGRES_TEXTS: Final = (
    *("application_name", "database", "gsslib", "host", "krbsrvname", "passfile", "password", "port"),
    *("ssl", "sslmode", "target_session_attrs", "user"),
)
_POSTGRES_PARAMETERS: Final[Mapping[str, Callable[[str], Any]]] = {
    **dict.fromkeys(_POSTGRES_TEXTS, str),
    **_POSTGRES_NUMBERS,
    "port": _ports,
    TRANSACTION_POOLING: asbool,
}
# libpq's name, and the driver's for the same.
_OTHER_NAMES: Final = {"sslmode": "ssl", "connect_timeout": "timeout"}

# Their values are no secrets, if they are what they must be; those of all others may be.
_MODES: Final = "disable|allow|prefer|require|verify-ca|verify-full"
_SHOWN: Final[Mapping[str, re.Pattern[str]]] = {
    name: re.compile(pattern, re.IGNORECASE)
    for name, pattern in {
        **dict.fromkeys(_POSTGRES_NUMBERS, r"[\d.]+"),
        **dict.fromkeys(("cached_statements", "detect_types", "port", "timeout"), r"[\d.]+(,\d+)*"),
        **dict.fromkeys(
            ("check_same_thread", "immutable", "nolock", "uri", TRANSACTION_POOLING),
            "true|false|yes|no|on|off|t|f|y|n|0|1",
        ),
        **dict.fromkeys(("ssl", "sslmode"), _MODES),
        "cache": "shared|private",
        "host": r"[\w.,:/\[\]-]*",
        "isolation_level": "deferred|immediate|exclusive",
        "mode": "ro|rw|rwc|memory",
        "target_session_attrs": "any|primary|standby|read-write|read-only|prefer-standby",
    }.items()
}
# Their values are certain words.
_WORDS: Final = frozenset({"cache", "mode", "ssl", "sslmode", "target_session_attrs"})

_HOST: Final = re.compile(r"[\w.-]+|[0-9A-Fa-f:.]+(%\w+)?")
_USER: Final = re.compile(r"[\w.+@ -]+")
_DATABASE: Final = re.compile(r"[\w.+$~ -]+")
_PARAMETER: Final = re.compile(r"[A-Za-z][A-Za-z_]{0,40}")


def parse_url(address: str) -> sa.URL:
    """Return the URL with our driver, from one as people write it.

    Raises:
        InvalidDatabaseUrlError: It is not a URL of SQLite or Postgres, or has a part or a parameter that neither knows.
    """
    if not isinstance(address, str):
        raise InvalidDatabaseUrlError("***", f"it is a {type(address).__name__}")
    if not _is_text(address):
        raise InvalidDatabaseUrlError(hidden(address), "it has bytes that are not UTF-8, and no driver takes them")
    url = _made(address)
    if url is None:
        # Not from the error, which may show a part of the address.
        raise InvalidDatabaseUrlError(hidden(address), "it is not a URL")
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise InvalidDatabaseUrlError(hidden(address), f"{url.drivername} is not supported")
    check = _check_sqlite if driver.startswith("sqlite") else _check_postgres
    check(url, address)
    url = url.set(drivername=driver)
    for name, ours in _OTHER_NAMES.items():
        if driver.startswith("postgresql") and name in url.query:
            url = url.difference_update_query([name]).update_query_dict({ours: url.query[name]})
    return url


def mask(address: str) -> str:
    """Return what may be shown of an address: no password, and nothing that was not taken apart."""
    url = _made(address)
    if url is None or not _is_taken_apart(url, address):
        return hidden(address)
    query = [f"{name}={_shown(name, value)}" for name, value in url.normalized_query.items()]
    # As people write it: the driver is our matter.
    url = url.set(drivername=url.get_backend_name(), query={})
    return url.render_as_string(hide_password=True) + ("?" + "&".join(query) if query else "")


def driver_settings(url: sa.URL) -> tuple[sa.URL, dict[str, Any]]:
    """Return a Postgres URL without the parameters that its driver does not take as texts, and those as it does."""
    settings: dict[str, Any] = {}
    for name, kind in _POSTGRES_NUMBERS.items():
        # Of SQLAlchemy's own, which reads it itself.
        if name in url.query and name != "prepared_statement_cache_size":
            settings[name] = kind(str(url.query[name]))
    application = url.query.get("application_name")
    if application is not None:
        settings["server_settings"] = {"application_name": str(application)}
    return url.difference_update_query([*settings, "application_name", TRANSACTION_POOLING]), settings


def is_pooled(url: sa.URL) -> bool:
    """Whether a URL says that a pooler in transaction mode is in between: ``?transaction_pooling=true``."""
    return TRANSACTION_POOLING in url.query and bool(asbool(str(url.query[TRANSACTION_POOLING])))


def is_memory(url: sa.URL) -> bool:
    """Whether a SQLite URL names no file."""
    database = url.database or ""
    named = database in ("", ":memory:") or database.startswith("file::memory:")
    return named or "mode=memory" in database or url.query.get("mode") == "memory"


def made_of_uri(url: sa.URL) -> Path | None:
    """Return the file that SQLite would make for a URL with a ``file:`` URI in it; None if it would make none."""
    database = url.database or ""
    is_uri = url.get_backend_name() == "sqlite" and database.startswith("file:") and "uri" in url.query
    if not is_uri or not asbool(str(url.query["uri"])) or is_memory(url):
        return None
    if url.query.get("mode", "rwc") != "rwc" or "vfs" in url.query:
        return None
    # As SQLite reads one: a host, which is nobody or this machine, and then the path.
    path = re.sub(r"^//(localhost)?(?=/)", "", database.removeprefix("file:"))
    path = unquote(path.partition("#")[0])
    return Path(path) if path and "\x00" not in path else None


def _is_text(address: str) -> bool:
    try:
        address.encode()
    except UnicodeEncodeError:
        return False
    return True


def _made(address: str) -> sa.URL | None:
    if not _is_text(address):
        return None
    try:
        return sa.make_url(address)
    except (ArgumentError, ValueError):
        return None


def _check_sqlite(url: sa.URL, address: str) -> None:
    if url.host is not None or url.username is not None or url.password is not None or url.port is not None:
        raise InvalidDatabaseUrlError(hidden(address), "the address of a SQLite file has three slashes before its path")
    if "\x00" in (url.database or ""):
        raise InvalidDatabaseUrlError(hidden(address), "no file has a NUL character in its name")
    known = dict(_SQLITE_PARAMETERS)
    _check_values(url, known, address, refuse_others=False)
    is_uri = "uri" in url.query and asbool(str(url.query["uri"]))
    if is_uri:
        known |= dict.fromkeys(_SQLITE_URI_PARAMETERS, str)
    elif (url.database or "").startswith("file:"):
        raise InvalidDatabaseUrlError(mask(address), "file: needs the parameter uri=true")
    elif named := [name for name in _SQLITE_URI_PARAMETERS if name in url.query]:
        raise InvalidDatabaseUrlError(
            mask(address), f"the parameter {named[0]} needs file: before the path, and uri=true"
        )
    _check_values(url, known, address)


def _check_postgres(url: sa.URL, address: str) -> None:
    user, database = url.username or "", url.database or ""
    is_unclear = ("@" in user and user in address) or (database in address and not _DATABASE.fullmatch(database or "x"))
    if not _is_place(url) or is_unclear:
        reason = "its parts cannot be told apart. In a user, a password and a database's name write @ : / ? # ; = as "
        raise InvalidDatabaseUrlError(hidden(address), reason + "%40 %3A %2F %3F %23 %3B %3D")
    _check_values(url, _POSTGRES_PARAMETERS, address)


def _check_values(
    url: sa.URL, known: Mapping[str, Callable[[str], Any]], address: str, *, refuse_others: bool = True
) -> None:
    for name, values in url.normalized_query.items():
        if name not in known:
            if not refuse_others:
                continue
            named = f"the parameter {name}" if _PARAMETER.fullmatch(name) else "one of its parameters"
            raise InvalidDatabaseUrlError(mask(address), f"{named} is not one that can be used here: leave it out")
        if len(values) > 1 and name not in ("host", "port"):
            raise InvalidDatabaseUrlError(mask(address), f"the parameter {name} is there twice")
        if name in _WORDS and not all(_SHOWN[name].fullmatch(value) for value in values):
            allowed = _SHOWN[name].pattern.replace("|", ", ")
            raise InvalidDatabaseUrlError(mask(address), f"the parameter {name} must be one of {allowed}")
        try:
            for value in values:
                known[name](value)
        except ValueError:
            kind = {int: "a whole number", float: "a number", _ports: "a port"}.get(known[name], "true or false")
            raise InvalidDatabaseUrlError(mask(address), f"the parameter {name} must be {kind}") from None


def _is_place(url: sa.URL) -> bool:
    """Whether the host and the port are what they must be; if not, they are a part of something else."""
    return (not url.host or _HOST.fullmatch(url.host) is not None) and (url.port is None or 0 < url.port < 65_536)


def _is_taken_apart(url: sa.URL, address: str) -> bool:
    if not all(_PARAMETER.fullmatch(name) for name in url.query):
        return False
    if url.get_backend_name() == "sqlite":
        return not (url.host or url.username or url.password or url.port) and not has_secret(url.database or "")
    user, database = url.username or "", url.database or ""
    return (
        url.get_backend_name() in ("postgresql", "postgres")
        and _is_place(url)
        and (not user or (_USER.fullmatch(user) is not None and not ("@" in user and user in address)))
        and (not database or _DATABASE.fullmatch(database) is not None)
    )


def _shown(name: str, values: tuple[str, ...] | Any) -> str:
    if name not in _SHOWN or not all(_SHOWN[name].fullmatch(value) for value in values):
        return "***"
    return f"&{name}=".join(quote_plus(value, safe="/:,[]") for value in values)
