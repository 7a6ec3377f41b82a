"""URLs of databases: parsed, checked, and shown without secrets.

A URL is shown only if each part of it was recognized; of any other only the scheme is shown.
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
from taskctx_sql.locations import has_secret, hidden, refuse_invisible
from taskctx_sql.sql.engines import postgres_urls

_DRIVERS: Final = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    # None: the library chooses.
    "postgresql": None,
    "postgres": None,
    "postgresql+asyncpg": postgres_urls.ASYNCPG,
    "postgresql+psycopg": postgres_urls.PSYCOPG,
    "postgresql+psycopg_async": postgres_urls.PSYCOPG,
}

# The parameters of SQLite's driver, and how a text becomes the value that it takes.
_SQLITE_PARAMETERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "cached_statements": int,
    "check_same_thread": asbool,
    "detect_types": int,
    "isolation_level": str,
    "timeout": float,
    "uri": asbool,
}
_SQLITE_URI_PARAMETERS: Final = ("cache", "immutable", "mode", "nolock", "psow", "vfs")

# Parameters whose values are shown if they match; all other values may be secrets.
_MODES: Final = "disable|allow|prefer|require|verify-ca|verify-full"
_SHOWN: Final[Mapping[str, re.Pattern[str]]] = {
    name: re.compile(pattern, re.IGNORECASE)
    for name, pattern in {
        **dict.fromkeys(postgres_urls.NUMBERS, r"[\d.]+"),
        **dict.fromkeys(("cached_statements", "detect_types", "port", "timeout"), r"[\d.]+(,\d+)*"),
        **dict.fromkeys(
            ("check_same_thread", "immutable", "nolock", "uri", postgres_urls.TRANSACTION_POOLING),
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
# Parameters whose values must match.
_CHECKED: Final = frozenset({"cache", "mode", "ssl", "sslmode", "target_session_attrs"})

_HOST: Final = re.compile(r"[\w.-]+|[0-9A-Fa-f:.]+(%\w+)?")
_USER: Final = re.compile(r"[\w.+@ -]+")
_DATABASE: Final = re.compile(r"[\w.+$~ -]+")
_PARAMETER: Final = re.compile(r"[A-Za-z][A-Za-z_]{0,40}")


def parse_url(database_url: str, *, transaction_pooling: bool = False) -> sa.URL:
    """Return a URL as people write it, with the driver that the library uses, or raise InvalidDatabaseUrlError.

    ``transaction_pooling``, which the URL may say too, matters for a URL that names no driver.
    """
    if not isinstance(database_url, str):
        raise InvalidDatabaseUrlError("***", f"it is a {type(database_url).__name__}")
    refuse_invisible(database_url)
    url = _make_url(database_url)
    if url is None:
        # Without its error, which may show a part of the URL.
        is_text = database_url.encode("utf-8", "replace").decode() == database_url
        reason = "it is not a URL" if is_text else "it has bytes that are not UTF-8"
        raise InvalidDatabaseUrlError(hidden(database_url), reason)
    if url.drivername not in _DRIVERS:
        raise InvalidDatabaseUrlError(hidden(database_url), f"{url.drivername} is not supported")
    driver = _DRIVERS[url.drivername]
    if url.get_backend_name() == "sqlite":
        _check_sqlite(url, database_url)
        return url.set(drivername=driver)
    _check_postgres(url, database_url)
    if driver is None:
        driver = postgres_urls.choose(url.query, transaction_pooling=transaction_pooling or is_pooled(url))
    _check_values(url, postgres_urls.PARAMETERS[driver], database_url)
    for name, driver_name in postgres_urls.NAMES[driver].items():
        if name in url.query:
            url = url.difference_update_query([name]).update_query_dict({driver_name: url.query[name]})
    return url.set(drivername=driver)


def mask(database_url: str) -> str:
    """Return a URL as it may be shown: without passwords and parts that were not recognized."""
    url = _make_url(database_url)
    if url is None or not _is_recognized(url, database_url):
        return hidden(database_url)
    query = [f"{name}={_shown(name, value)}" for name, value in url.normalized_query.items()]
    # As people write it, without the driver.
    url = url.set(drivername=url.get_backend_name(), query={})
    return url.render_as_string(hide_password=True) + ("?" + "&".join(query) if query else "")


def is_pooled(url: sa.URL) -> bool:
    """Whether a URL has ``?transaction_pooling=true``: there is a pooler in transaction mode."""
    return _is_true(url, postgres_urls.TRANSACTION_POOLING)


def _is_true(url: sa.URL, parameter: str) -> bool:
    return parameter in url.query and bool(asbool(str(url.query[parameter])))


def is_memory(url: sa.URL) -> bool:
    """Whether a SQLite URL is of a database in memory."""
    database = url.database or ""
    has_name = database in ("", ":memory:") or database.startswith("file::memory:")
    return has_name or "mode=memory" in database or url.query.get("mode") == "memory"


def is_file(url: sa.URL) -> bool:
    """Whether a URL is of a SQLite file given by its path."""
    return url.get_backend_name() == "sqlite" and not is_memory(url) and not str(url.database).startswith("file:")


def is_plain_file(url: sa.URL) -> bool:
    """Whether a URL is of a SQLite file given by its path, without parameters."""
    return is_file(url) and not url.query


def file_of_uri(url: sa.URL) -> Path | None:
    """Return the file that SQLite would create for a URL with a ``file:`` URI in it; None if it would create none."""
    database = url.database or ""
    is_uri = url.get_backend_name() == "sqlite" and database.startswith("file:") and _is_true(url, "uri")
    if not is_uri or is_memory(url) or url.query.get("mode", "rwc") != "rwc" or "vfs" in url.query:
        return None
    # As SQLite reads one: an empty host or localhost, and then the path.
    path = unquote(re.sub(r"^//(localhost)?(?=/)", "", database.removeprefix("file:")).partition("#")[0])
    return Path(path) if path and "\x00" not in path else None


def _make_url(database_url: str) -> sa.URL | None:
    try:
        # A lone surrogate, which stands for a byte that is not UTF-8, is a ValueError too.
        database_url.encode()
        return sa.make_url(database_url)
    except (ArgumentError, ValueError):
        return None


def _check_sqlite(url: sa.URL, database_url: str) -> None:
    if url.host is not None or url.username is not None or url.password is not None or url.port is not None:
        raise InvalidDatabaseUrlError(
            hidden(database_url), "the URL of a SQLite file has three slashes before its path"
        )
    if "\x00" in (url.database or ""):
        raise InvalidDatabaseUrlError(hidden(database_url), "no file has a NUL character in its name")
    known = dict(_SQLITE_PARAMETERS)
    _check_values(url, known, database_url, refuse_others=False)
    if _is_true(url, "uri"):
        known |= dict.fromkeys(_SQLITE_URI_PARAMETERS, str)
    elif (url.database or "").startswith("file:"):
        raise InvalidDatabaseUrlError(mask(database_url), "file: needs the parameter uri=true")
    elif uri_only := [name for name in _SQLITE_URI_PARAMETERS if name in url.query]:
        raise InvalidDatabaseUrlError(
            mask(database_url), f"the parameter {uri_only[0]} needs file: before the path, and uri=true"
        )
    _check_values(url, known, database_url)


def _check_postgres(url: sa.URL, database_url: str) -> None:
    user, database = url.username or "", url.database or ""
    is_unclear = ("@" in user and user in database_url) or (
        database in database_url and not _DATABASE.fullmatch(database or "x")
    )
    if not _has_valid_host(url) or is_unclear:
        reason = "its parts are ambiguous. In a user, a password and a database's name write @ : / ? # ; = as "
        raise InvalidDatabaseUrlError(hidden(database_url), reason + "%40 %3A %2F %3F %23 %3B %3D")
    # Read before the driver is known, which decides about the others.
    pooling = postgres_urls.TRANSACTION_POOLING
    _check_values(
        url, {pooling: postgres_urls.PARAMETERS[postgres_urls.ASYNCPG][pooling]}, database_url, refuse_others=False
    )


def _check_values(
    url: sa.URL, known: Mapping[str, Callable[[str], Any]], database_url: str, *, refuse_others: bool = True
) -> None:
    for name, values in url.normalized_query.items():
        if name not in known:
            if not refuse_others:
                continue
            which = f"the parameter {name}" if _PARAMETER.fullmatch(name) else "one of its parameters"
            raise InvalidDatabaseUrlError(mask(database_url), f"{which} cannot be used here: {_advice(url, name)}")
        if len(values) > 1 and name not in ("host", "port"):
            raise InvalidDatabaseUrlError(mask(database_url), f"the parameter {name} is given twice")
        if name in _CHECKED and not all(_SHOWN[name].fullmatch(value) for value in values):
            allowed = _SHOWN[name].pattern.replace("|", ", ")
            raise InvalidDatabaseUrlError(mask(database_url), f"the parameter {name} must be one of {allowed}")
        try:
            for value in values:
                known[name](value)
        except ValueError:
            kind = {int: "a whole number", float: "a number", postgres_urls.ports: "a port"}.get(
                known[name], "true or false"
            )
            raise InvalidDatabaseUrlError(mask(database_url), f"the parameter {name} must be {kind}") from None


def _advice(url: sa.URL, name: str) -> str:
    """Return what to do about a parameter that a URL's driver does not take."""
    takes = [driver for driver, taken in postgres_urls.PARAMETERS.items() if name in taken]
    return f"leave it out, or write {takes[0]}://" if takes and url.get_backend_name() != "sqlite" else "leave it out"


def _has_valid_host(url: sa.URL) -> bool:
    """Whether the host and the port are valid; if not, they are a part of something else."""
    return (not url.host or _HOST.fullmatch(url.host) is not None) and (url.port is None or 0 < url.port < 65_536)


def _is_recognized(url: sa.URL, database_url: str) -> bool:
    if not all(_PARAMETER.fullmatch(name) for name in url.query):
        return False
    if url.get_backend_name() == "sqlite":
        return not (url.host or url.username or url.password or url.port) and not has_secret(url.database or "")
    user, database = url.username or "", url.database or ""
    return (
        url.get_backend_name() in ("postgresql", "postgres")
        and _has_valid_host(url)
        and (not user or (_USER.fullmatch(user) is not None and not ("@" in user and user in database_url)))
        and (not database or _DATABASE.fullmatch(database) is not None)
    )


def _shown(name: str, values: tuple[str, ...] | Any) -> str:
    if name not in _SHOWN or not all(_SHOWN[name].fullmatch(value) for value in values):
        return "***"
    return f"&{name}=".join(quote_plus(value, safe="/:,[]") for value in values)
