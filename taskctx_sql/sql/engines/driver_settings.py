"""What each driver of Postgres is told so that the parameters of an address mean what libpq says."""

from __future__ import annotations

import inspect
import math
import os
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import sqlalchemy as sa

from taskctx_sql.errors import InvalidArgumentError, InvalidDatabaseUrlError
from taskctx_sql.locations import shown_path
from taskctx_sql.sql.engines import parameters
from taskctx_sql.sql.engines.addresses import mask

APPLICATION_NAME: Final = "taskctx_sql"
SYSTEM: Final = "system"

# Files that have to exist if they are named.
_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
# asyncpg reads these from an address of its own, and nowhere else.
_TLS: Final = (
    *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslnegotiation"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version"),
)
_NUMBERS: Final = {
    "command_timeout": float,
    "max_cacheable_statement_size": int,
    "max_cached_statement_lifetime": int,
    "prepared_statement_cache_size": int,
    "statement_cache_size": int,
}
# Arguments of the drivers that the library's own work depends on.
_OURS: Final = frozenset(
    {"autocommit", "connection_class", "context", "cursor_factory", "dsn", "conninfo", "loop", "record_class"}
    | {"row_factory", "host", "port", "user", "password", "database", "dbname", "ssl", "sslmode"}
)

Settings = tuple[sa.URL, dict[str, Any]]
# Takes the URL, whether there is a pooler, the seconds to connect in, and settings of the server by their names.
SettingsOf = Callable[[sa.URL, bool, float | None, Mapping[str, str]], Settings]


def check_files(url: sa.URL) -> None:
    """Raise InvalidDatabaseUrlError if a file for TLS does not exist: a driver may take that for an outage."""
    for name in _FILES:
        value = str(url.query.get(name, ""))
        if not value or (name == "sslrootcert" and value == SYSTEM) or url.query.get("sslmode") == "disable":
            continue
        if not Path(value).is_file():
            reason = f"the parameter {name} names a file that does not exist, {shown_path(value)}: check the path"
            raise InvalidDatabaseUrlError(mask(url), reason)


def asyncpg_settings(url: sa.URL, pooled: bool, seconds: float | None, server: Mapping[str, str]) -> Settings:
    """Return a URL with the hosts alone, and the settings for asyncpg."""
    given = {name: str(value) for name, value in url.query.items() if name not in ("host", "port")}
    settings: dict[str, Any] = {name: kind(given[name]) for name, kind in _NUMBERS.items() if name in given}
    settings |= {name: given[name] for name in ("gsslib", "krbsrvname", "passfile", "service") if name in given}
    settings["timeout"] = seconds
    if pooled:
        settings |= {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
    names = (given.get("application_name"), os.environ.get("PGAPPNAME"), given.get("fallback_application_name"))
    server_settings = {**server, "application_name": next(filter(None, names), APPLICATION_NAME)}
    if options := given.get("options", os.environ.get("PGOPTIONS")):
        server_settings["options"] = options
    settings["server_settings"] = server_settings
    tls: dict[str, str] = {name: given[name] for name in _TLS if name in given}
    if tls.get("sslrootcert") == SYSTEM:
        settings["ssl"] = _system_context(tls)
        tls = {name: tls[name] for name in ("sslnegotiation",) if name in tls}
    if tls:
        settings["dsn"] = f"postgresql://?{urlencode(tls, quote_via=quote, safe='/')}"
    if "target_session_attrs" in given:
        settings["target_session_attrs"] = given["target_session_attrs"]
    if "," in str(url.query.get("host", "")):
        settings["async_creator_fn"] = _connect_in_turn
    return url.difference_update_query(given), settings


def _system_context(tls: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if "sslcert" in tls:
        context.load_cert_chain(tls["sslcert"], tls.get("sslkey"), lambda: tls.get("sslpassword", ""))
    return context


async def _connect_in_turn(*, host: list[str], port: list[int], **settings: Any) -> Any:
    """Connect to the first of several hosts that will do, each within the time that libpq gives it.

    asyncpg's time is for all of them, so that one which does not answer would leave none for the next.
    """
    import asyncpg

    wanted: Any = settings.pop("target_session_attrs", "any")
    # As libpq does: any other than a standby if none is there.
    rounds: tuple[Any, ...] = ("standby", "any") if wanted == "prefer-standby" else (wanted,)
    last: BaseException = OSError("no host is given")
    for attributes in rounds:
        for one, its_port in zip(host, port, strict=True):
            try:
                return await asyncpg.connect(host=one, port=its_port, target_session_attrs=attributes, **settings)
            except (OSError, asyncpg.TargetServerAttributeNotMatched, asyncpg.CannotConnectNowError) as error:
                last = error
    raise last


def psycopg_settings(url: sa.URL, pooled: bool, seconds: float | None, server: Mapping[str, str]) -> Settings:
    """Return a URL with parameters of libpq, and the settings for psycopg."""
    # It takes whole numbers; 0 is no limit.
    settings: dict[str, Any] = {"connect_timeout": math.ceil(seconds) if seconds is not None else 0}
    # Not at the top: it needs psycopg.
    from taskctx_sql.sql.engines import psycopg_connection

    settings["async_creator_fn"] = psycopg_connection.connect
    if pooled:
        settings["prepare_threshold"] = None
    if "application_name" not in url.query and not os.environ.get("PGAPPNAME"):
        settings["application_name"] = str(url.query.get("fallback_application_name", APPLICATION_NAME))
    if server:
        # The last one wins, so that the address does.
        ours = [f"-c {name}={value}" for name, value in server.items()]
        given = str(url.query.get("options", os.environ.get("PGOPTIONS", "")))
        settings["options"] = " ".join([*ours, *([given] if given else [])])
    dropped = ["connect_timeout", "client_encoding", parameters.TRANSACTION_POOLING]
    return url.difference_update_query([*dropped, *settings]), settings


def driver_options(url: sa.URL, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments for the driver, or raise InvalidArgumentError for one that it does not have."""
    if url.drivername == parameters.PSYCOPG:
        from psycopg.pq import Conninfo

        known = {option.keyword.decode() for option in Conninfo.get_defaults()} | {"prepare_threshold"}
    else:
        import asyncpg

        known = {*inspect.signature(asyncpg.connect).parameters} | {"prepared_statement_cache_size"}
    for name in given:
        driver = url.get_driver_name()
        if name in _OURS:
            allowed = f"it in the address, or by another argument: the library tells {driver} that one itself"
            raise InvalidArgumentError(f"driver_options[{name!r}]", "***", allowed)
        if name not in known:
            similar = parameters.advice(name, known)
            raise InvalidArgumentError(f"driver_options[{name!r}]", "***", f"an argument that {driver} has ({similar})")
    return dict(given)


def connect_seconds(url: sa.URL, most: float | None, default: float) -> float | None:
    """Return in how many seconds a host has to accept a connection, None for no limit."""
    given = url.query.get("connect_timeout")
    seconds = float(str(given)) if given is not None else default
    # To libpq, 0 and less are no limit.
    limited = [value for value in (seconds, most) if value is not None and math.isfinite(value) and value > 0]
    return min(limited, default=None)
