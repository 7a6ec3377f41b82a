"""The drivers of Postgres: which one serves a URL, which parameters each takes, and what it calls them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.util import asbool

ASYNCPG: Final = "postgresql+asyncpg"
PSYCOPG: Final = "postgresql+psycopg"

TRANSACTION_POOLING: Final = "transaction_pooling"


def ports(text: str) -> list[int]:
    """Return the ports of several hosts, separated by commas."""
    ports = [int(port) for port in text.split(",")]
    if not all(0 < port < 65_536 for port in ports):
        raise ValueError(text)
    return ports


# The parameters of a URL, and how a text becomes a value, or a ValueError.
_SECONDS: Final = ("connect_timeout", "timeout")
_TEXTS: Final = (
    *("application_name", "database", "gsslib", "host", "krbsrvname", "passfile", "password"),
    *("ssl", "sslmode", "target_session_attrs", "user"),
)
_BOTH: Final[Mapping[str, Callable[[str], Any]]] = {
    **dict.fromkeys(_TEXTS, str),
    **dict.fromkeys(_SECONDS, float),
    "port": ports,
    TRANSACTION_POOLING: asbool,
}
_ASYNCPG_ONLY: Final[Mapping[str, Callable[[str], Any]]] = {
    "command_timeout": float,
    "max_cacheable_statement_size": int,
    "max_cached_statement_lifetime": int,
    "prepared_statement_cache_size": int,
    "statement_cache_size": int,
}
_KEEPALIVE_NUMBERS: Final = ("keepalives_count", "keepalives_idle", "keepalives_interval", "tcp_user_timeout")
_PSYCOPG_ONLY: Final[Mapping[str, Callable[[str], Any]]] = {
    **dict.fromkeys(("channel_binding", "gssencmode", "load_balance_hosts", "require_auth"), str),
    **dict.fromkeys(("sslcert", "sslcrl", "sslkey", "sslnegotiation", "sslrootcert"), str),
    **dict.fromkeys(("keepalives", *_KEEPALIVE_NUMBERS), int),
}
PARAMETERS: Final[Mapping[str, Mapping[str, Callable[[str], Any]]]] = {
    ASYNCPG: {**_BOTH, **_ASYNCPG_ONLY},
    PSYCOPG: {**_BOTH, **_PSYCOPG_ONLY},
}
NUMBERS: Final = (*_SECONDS, *_ASYNCPG_ONLY, "keepalives", *_KEEPALIVE_NUMBERS)
# What is the same has two names: the other driver's, and the one that a driver takes.
NAMES: Final = {
    ASYNCPG: {"sslmode": "ssl", "connect_timeout": "timeout"},
    PSYCOPG: {"ssl": "sslmode", "timeout": "connect_timeout", "database": "dbname"},
}


def choose(parameters: Collection[str], *, transaction_pooling: bool) -> str:
    """Return the driver for a URL that names none: asyncpg if it is installed, and behind a pooler psycopg.

    Without prepared statements, which a pooler may not keep, psycopg takes one round trip where asyncpg takes four.
    """
    prefers_psycopg = transaction_pooling and not any(name in _ASYNCPG_ONLY for name in parameters)
    first, second = (PSYCOPG, ASYNCPG) if prefers_psycopg else (ASYNCPG, PSYCOPG)
    if _is_installed(first):
        return first
    # If neither is, the error names asyncpg.
    return second if _is_installed(second) else ASYNCPG


def _is_installed(driver: str) -> bool:
    try:
        # psycopg can be there, and the library of Postgres that it needs can not.
        import_module(driver.partition("+")[2])
    except ImportError:
        return False
    return True


def asyncpg_settings(
    url: sa.URL, *, pooled: bool, connect_seconds: float | None, lock_timeout: str | None
) -> _Settings:
    """Return a URL without the parameters that asyncpg does not take as texts, and its settings."""
    kinds = PARAMETERS[ASYNCPG]
    # SQLAlchemy reads that one itself.
    numbers = (name for name in NUMBERS if name in url.query and name != "prepared_statement_cache_size")
    settings: dict[str, Any] = {name: kinds[name](str(url.query[name])) for name in numbers}
    url = url.difference_update_query(settings)
    if connect_seconds is not None:
        settings["timeout"] = connect_seconds
    if pooled:
        settings |= {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
    application = url.query.get("application_name")
    # A pooler may refuse others.
    server = {"lock_timeout": lock_timeout, "application_name": application and str(application)}
    if given := {name: value for name, value in server.items() if value is not None}:
        settings["server_settings"] = given
    return url.difference_update_query(["application_name", TRANSACTION_POOLING]), settings


def psycopg_settings(
    url: sa.URL, *, pooled: bool, connect_seconds: float | None, lock_timeout: str | None
) -> _Settings:
    """Return a URL with parameters that psycopg takes, and its settings."""
    settings: dict[str, Any] = {}
    given = url.query.get("connect_timeout")
    seconds = float(str(given)) if connect_seconds is None and given is not None else connect_seconds
    if seconds is not None:
        # It takes whole numbers; 0 is its default.
        settings["connect_timeout"] = math.ceil(seconds) if math.isfinite(seconds) else 0
    if pooled:
        settings["prepare_threshold"] = None
    if lock_timeout is not None:
        settings["options"] = f"-c lock_timeout={lock_timeout}"
    return url.difference_update_query(["connect_timeout", TRANSACTION_POOLING]), settings


_Settings = tuple[sa.URL, dict[str, Any]]
