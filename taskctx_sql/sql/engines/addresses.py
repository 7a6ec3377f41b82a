"""URLs of databases: parsed, checked, and shown without secrets.

A URL is shown only if each part of it was recognized; of any other only the scheme is shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, quote_plus, unquote

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError
from sqlalchemy.util import asbool

from taskctx_sql.errors import InvalidDatabaseUrlError
from taskctx_sql.locations import has_secret, hidden, refuse_invisible
from taskctx_sql.model import DEFAULT_CONNECTION, ConnectionOptions
from taskctx_sql.sql.engines import parameters
from taskctx_sql.sql.engines.hosts import check_hosts, in_query, with_hosts

_DRIVERS: Final = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    # None: the library chooses.
    "postgresql": None,
    "postgres": None,
    "postgresql+asyncpg": parameters.ASYNCPG,
    "postgresql+psycopg": parameters.PSYCOPG,
    "postgresql+psycopg_async": parameters.PSYCOPG,
}

_HOST: Final = re.compile(r"[\w.-]+|[0-9A-Fa-f:.]+(%\w+)?")
_USER: Final = re.compile(r"[\w.+@ -]+")
_DATABASE: Final = re.compile(r"[\w.+$~ -]+")
_PARAMETER: Final = re.compile(r"[A-Za-z][A-Za-z_]{0,40}")

# SQLAlchemy 2.0 takes %20 in the name of a database for these three characters, and 2.1 for a space.
_DECODES_DATABASE: Final = sa.make_url("sqlite:///%20").database == " "


def parse_url(
    database_url: str, options: ConnectionOptions = DEFAULT_CONNECTION, *, transaction_pooling: bool = False
) -> sa.URL:
    """Return a URL as people write it, with the driver that the library uses, or raise InvalidDatabaseUrlError.

    For Postgres it has the parameters of the options, too. ``transaction_pooling``, which the URL may say too, matters
    for a URL that names no driver.
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
        options.only(("lock_timeout",), f"{hidden(database_url)} is a SQLite file")
        return _parse_sqlite(url, database_url).set(drivername=driver)
    _check_parts(url, database_url)
    url = _with_parts(url)
    _check_values(url, parameters.POSTGRES, database_url)
    url = _with_options(_unified(url, database_url), options)
    check_hosts(url, mask(database_url))
    _check_trust(url, database_url)
    if driver is None:
        driver = _choose(url, transaction_pooling=transaction_pooling or is_pooled(url))
    _check_driver(url, driver, database_url)
    return url.set(drivername=driver)


def mask(database_url: str | sa.URL) -> str:
    """Return a URL as it may be shown: without passwords and parts that were not recognized."""
    if isinstance(database_url, sa.URL):
        database_url = _text(database_url, hide_password=False)
    url = _make_url(database_url)
    if url is None or not _is_recognized(url, database_url):
        return hidden(database_url)
    is_sqlite = url.get_backend_name() == "sqlite"
    known = {**parameters.SQLITE, **parameters.SQLITE_URI} if is_sqlite else parameters.POSTGRES
    url = url if is_sqlite else _with_parts(url)
    query = [f"{name}={_shown(known, name, value)}" for name, value in url.normalized_query.items()]
    # As people write it, without the driver.
    url = url.set(drivername=url.get_backend_name(), query={})
    return _text(url, hide_password=True) + ("?" + "&".join(query) if query else "")


def is_pooled(url: sa.URL) -> bool:
    """Whether a URL has ``?transaction_pooling=true``: there is a pooler in transaction mode."""
    return _is_true(url, parameters.TRANSACTION_POOLING)


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
        url = sa.make_url(in_query(database_url))
    except (ArgumentError, ValueError):
        return None
    return url if _DECODES_DATABASE or url.database is None else url.set(database=unquote(url.database))


def _text(url: sa.URL, *, hide_password: bool) -> str:
    if not _DECODES_DATABASE and url.database is not None:
        url = url.set(database=quote(url.database, safe=" +/"))
    return url.render_as_string(hide_password=hide_password)


def _unified(url: sa.URL, database_url: str) -> sa.URL:
    """Return a URL of Postgres whose parameters have one name each."""
    for name, same in parameters.SAME.items():
        if name in url.query:
            if same in url.query:
                reason = f"the parameters {name} and {same} are the same: leave one out"
                raise InvalidDatabaseUrlError(mask(database_url), reason)
            url = url.difference_update_query([name]).update_query_dict({same: url.query[name]})
    return url


def _with_parts(url: sa.URL) -> sa.URL:
    """Return a URL of Postgres whose user, password, database and hosts have one place each."""
    for name, part in parameters.PARTS.items():
        value = url.query.get(name)
        if isinstance(value, str):
            parts: dict[str, Any] = {part: value}
            url = url.difference_update_query([name]).set(**parts)
    return with_hosts(url)


def _with_options(url: sa.URL, options: ConnectionOptions) -> sa.URL:
    url = url.update_query_dict(options.parameters)
    if isinstance(options.password, str):
        url = url.set(password=options.password)
    if options.host is not None:
        url = url.difference_update_query(["host", "port"])._replace(host=None, port=None)
        url = with_hosts(url.update_query_dict({"host": str(options.host)}))
    return url


def _parse_sqlite(url: sa.URL, database_url: str) -> sa.URL:
    if url.host is not None or url.username is not None or url.password is not None or url.port is not None:
        raise InvalidDatabaseUrlError(
            hidden(database_url), "the URL of a SQLite file has three slashes before its path"
        )
    if "\x00" in (url.database or ""):
        raise InvalidDatabaseUrlError(hidden(database_url), "no file has a NUL character in its name")
    _check_values(url, {**parameters.SQLITE, **parameters.SQLITE_URI}, database_url)
    of_sqlite = [name for name in parameters.SQLITE_URI if name in url.query]
    if _is_true(url, "uri") or not (of_sqlite or (url.database or "").startswith("file:")):
        return url
    if (url.database or "").startswith("file:"):
        raise InvalidDatabaseUrlError(mask(database_url), "file: needs the parameter uri=true")
    if (url.database or "") in ("", ":memory:"):
        reason = f"the parameter {of_sqlite[0]} needs a file, and a database in memory has none: leave it out"
        raise InvalidDatabaseUrlError(mask(database_url), reason)
    # SQLite reads its own parameters from a URI alone.
    path = Path(str(url.database)).absolute()
    return url.set(database=path.as_uri()).update_query_dict({"uri": "true"})


def _check_parts(url: sa.URL, database_url: str) -> None:
    user, database = url.username or "", url.database or ""
    is_unclear = ("@" in user and user in database_url) or (
        database in database_url and not _DATABASE.fullmatch(database or "x")
    )
    if not _has_valid_host(url) or is_unclear:
        reason = "its parts are ambiguous. In a user, a password and a database's name write @ : / ? # ; = as "
        raise InvalidDatabaseUrlError(hidden(database_url), reason + "%40 %3A %2F %3F %23 %3B %3D")


def _check_values(url: sa.URL, known: Mapping[str, parameters.Kind], database_url: str) -> None:
    for name, values in url.normalized_query.items():
        if name not in known:
            which = f"the parameter {name}" if _PARAMETER.fullmatch(name) else "one of its parameters"
            advice = parameters.advice(name, known) if _PARAMETER.fullmatch(name) else "leave it out"
            raise InvalidDatabaseUrlError(mask(database_url), f"{which} cannot be used here: {advice}")
        if len(values) > 1:
            raise InvalidDatabaseUrlError(mask(database_url), f"the parameter {name} is given twice")
        if not known[name].pattern.fullmatch(values[0]):
            raise InvalidDatabaseUrlError(mask(database_url), f"the parameter {name} must be {known[name].allowed}")


def _check_trust(url: sa.URL, database_url: str) -> None:
    # As libpq does: with any other mode, the certificate would be of no use.
    if url.query.get("sslrootcert") == "system" and url.query.get("sslmode", "verify-full") != "verify-full":
        reason = "the parameter sslrootcert=system needs sslmode=verify-full, or no sslmode"
        raise InvalidDatabaseUrlError(mask(database_url), reason)


def _choose(url: sa.URL, *, transaction_pooling: bool) -> str:
    """Return the driver for a URL that names none: the one that has its parameters, asyncpg if both have.

    Without prepared statements, which a pooler may not keep, psycopg takes one round trip where asyncpg takes four.
    """
    beyond = parameters.needs_psycopg(_texts(url)) is not None
    prefers_psycopg = (transaction_pooling or beyond) and not parameters.needs_asyncpg(url.query)
    first, second = (
        (parameters.PSYCOPG, parameters.ASYNCPG) if prefers_psycopg else (parameters.ASYNCPG, parameters.PSYCOPG)
    )
    if _is_installed(first):
        return first
    # If neither is, the error names asyncpg.
    return second if _is_installed(second) else parameters.ASYNCPG


def _is_installed(driver: str) -> bool:
    try:
        # psycopg can be there, and the library of Postgres that it needs can not.
        import_module(driver.partition("+")[2])
    except ImportError:
        return False
    return True


def _check_driver(url: sa.URL, driver: str, database_url: str) -> None:
    """Raise InvalidDatabaseUrlError for what the driver cannot do."""
    if driver == parameters.PSYCOPG:
        name, other = parameters.needs_asyncpg(url.query), parameters.ASYNCPG
    else:
        name, other = parameters.needs_psycopg(_texts(url)), parameters.PSYCOPG
    if name is None:
        return
    install = "" if _is_installed(other) else f" (`pip install 'taskctx_sql[{parameters.EXTRAS[other]}]'`)"
    what = f"the parameter {name} cannot be used here, since {driver.partition('+')[2]} does not have it"
    instead = f"leave it out, or write {other}://{install}"
    if name in parameters.PROTECTING:
        instead = f"write {other}://{install}, or protect the connection by sslmode=verify-full instead"
    raise InvalidDatabaseUrlError(mask(database_url), f"{what}: {instead}")


def _texts(url: sa.URL) -> dict[str, str]:
    return {name: str(value) for name, value in url.query.items()}


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


def _shown(known: Mapping[str, parameters.Kind], name: str, values: tuple[str, ...] | Any) -> str:
    kind = known.get(name)
    if kind is None or not kind.shown or not all(kind.pattern.fullmatch(value) for value in values):
        return "***"
    return f"&{name}=".join(quote_plus(value, safe="/:,[]") for value in values)
