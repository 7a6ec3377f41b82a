"""The parameters of an address: which there are, what their values may be, and which driver of Postgres has each.

Those of Postgres have the names and the meaning that libpq gives them, with both drivers.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

ASYNCPG: Final = "postgresql+asyncpg"
PSYCOPG: Final = "postgresql+psycopg"

TRANSACTION_POOLING: Final = "transaction_pooling"
# The optional dependencies with a driver.
EXTRAS: Final = {ASYNCPG: "postgres", PSYCOPG: "psycopg"}


class Kind(NamedTuple):
    """What a value may be, for a message and as a pattern, and whether a value that matches may be shown."""

    allowed: str
    pattern: re.Pattern[str]
    shown: bool = True


def _kind(allowed: str, pattern: str, *, shown: bool = True) -> Kind:
    return Kind(allowed, re.compile(pattern, re.IGNORECASE | re.DOTALL), shown)


def _one_of(*values: str) -> Kind:
    return _kind(f"one of {', '.join(values)}", "|".join(map(re.escape, values)))


# What it says may be a secret.
_TEXT: Final = _kind("a text", ".*", shown=False)
_NAME: Final = _kind("a text", r"[\w.,:/\[\] @~-]*")
_PATH: Final = _kind("a path", r"[^\x00]*", shown=False)
_NUMBER: Final = _kind("a whole number", r"-?\d+")
_SECONDS: Final = _kind("a number of seconds", r"-?\d+(\.\d*)?|\.\d+|inf(inity)?")
_FLAG: Final = _one_of("0", "1")
_SWITCH: Final = _one_of("true", "false", "yes", "no", "on", "off", "t", "f", "y", "n", "1", "0")
_PORTS: Final = _kind("a port", r"0*[1-9]\d{0,4}(,0*[1-9]\d{0,4})*")
_TLS_VERSION: Final = _one_of("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")

SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
SESSIONS: Final = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")

_LIBPQ: Final[Mapping[str, Kind]] = {
    "application_name": _NAME,
    "channel_binding": _one_of("disable", "prefer", "require"),
    # An older libpq takes no other value for what both drivers use anyway.
    "client_encoding": _one_of("utf8", "utf-8", "auto"),
    "connect_timeout": _SECONDS,
    "fallback_application_name": _NAME,
    "gssdelegation": _FLAG,
    "gssencmode": _one_of("disable", "prefer", "require"),
    "gsslib": _one_of("gssapi", "sspi"),
    "host": _NAME,
    "hostaddr": _NAME,
    "keepalives": _FLAG,
    **dict.fromkeys(("keepalives_count", "keepalives_idle", "keepalives_interval", "tcp_user_timeout"), _NUMBER),
    "krbsrvname": _NAME,
    "load_balance_hosts": _one_of("disable", "random"),
    "max_protocol_version": _one_of("3.0", "3.2", "latest"),
    "min_protocol_version": _one_of("3.0", "3.2", "latest"),
    **dict.fromkeys(("oauth_client_id", "oauth_client_secret", "oauth_issuer", "oauth_scope"), _TEXT),
    "options": _TEXT,
    "passfile": _PATH,
    "port": _PORTS,
    "require_auth": _NAME,
    "requirepeer": _NAME,
    "service": _NAME,
    "sslcert": _PATH,
    "sslcertmode": _one_of("disable", "allow", "require"),
    "sslcompression": _FLAG,
    "sslcrl": _PATH,
    "sslcrldir": _PATH,
    "sslkey": _PATH,
    "ssl_max_protocol_version": _TLS_VERSION,
    "ssl_min_protocol_version": _TLS_VERSION,
    "sslmode": _one_of(*SSL_MODES),
    "sslnegotiation": _one_of("postgres", "direct"),
    "sslpassword": _TEXT,
    "sslrootcert": _PATH,
    "sslsni": _FLAG,
    "target_session_attrs": _one_of(*SESSIONS),
}
_ASYNCPG_ONLY: Final[Mapping[str, Kind]] = {
    "command_timeout": _SECONDS,
    "max_cacheable_statement_size": _NUMBER,
    "max_cached_statement_lifetime": _NUMBER,
    "prepared_statement_cache_size": _NUMBER,
    "statement_cache_size": _NUMBER,
}
# What asyncpg leaves to libpq, and which values ask for nothing that it does not do anyway.
_PSYCOPG_ONLY: Final[Mapping[str, tuple[str, ...]]] = {
    "channel_binding": ("disable", "prefer"),
    "gssdelegation": ("0",),
    "gssencmode": ("disable", "prefer"),
    "load_balance_hosts": ("disable",),
    "sslcertmode": ("allow",),
    "sslcompression": ("0",),
    "sslsni": ("1",),
    **dict.fromkeys(("hostaddr", "require_auth", "requirepeer", "sslcrldir"), ()),
    **dict.fromkeys(("keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval"), ()),
    **dict.fromkeys(("max_protocol_version", "min_protocol_version", "tcp_user_timeout"), ()),
    **dict.fromkeys(("oauth_client_id", "oauth_client_secret", "oauth_issuer", "oauth_scope"), ()),
}
# Without these, somebody in between could pretend to be the server.
PROTECTING: Final = frozenset({"channel_binding", "gssencmode", "require_auth", "requirepeer"})
# What others call the same.
SAME: Final = {"ssl": "sslmode", "timeout": "connect_timeout", "pgbouncer": TRANSACTION_POOLING}
_ALL: Final[Mapping[str, Kind]] = {**_LIBPQ, **_ASYNCPG_ONLY, TRANSACTION_POOLING: _SWITCH}
POSTGRES: Final[Mapping[str, Kind]] = {**_ALL, **{name: _ALL[same] for name, same in SAME.items()}}
# Parts of the address that may be given as parameters.
PARTS: Final = {"dbname": "database", "database": "database", "password": "password", "user": "username"}

SQLITE: Final[Mapping[str, Kind]] = {
    "cached_statements": _NUMBER,
    "timeout": _SECONDS,
    "uri": _SWITCH,
}
# Those that SQLite itself reads.
SQLITE_URI: Final[Mapping[str, Kind]] = {
    "cache": _one_of("shared", "private"),
    "immutable": _SWITCH,
    "mode": _one_of("ro", "rw", "rwc", "memory"),
    "nolock": _SWITCH,
    "psow": _SWITCH,
    "vfs": _NAME,
}

_OURS: Final = "leave it out: the library sets it itself"
_POOL: Final = "leave it out, and pass connection=ConnectionOptions(pool_size=...)"
_SCHEMA: Final = "leave it out, and pass schema= (--schema on the command line)"
_INSTEAD: Final[Mapping[str, str]] = {
    **dict.fromkeys(("schema", "currentSchema", "search_path"), _SCHEMA),
    **dict.fromkeys(("connection_limit", "max_overflow", "pool_size", "pool_timeout"), _POOL),
    "replication": "leave it out: there is no replication here",
    **{
        name: f"leave it out, and write options=-c%20{name}=30s or pass connection=ConnectionOptions({name}=30)"
        for name in ("lock_timeout", "statement_timeout")
    },
    **dict.fromkeys(("check_same_thread", "detect_types", "isolation_level", "foreign_keys", "journal_mode"), _OURS),
    **dict.fromkeys(("busy_timeout", "_busy_timeout"), "write timeout= for it, in seconds"),
}


def needs_psycopg(parameters: Mapping[str, str]) -> str | None:
    """Return the first of these parameters that asyncpg does not have, None if it has all."""
    beyond = (n for n, value in parameters.items() if n in _PSYCOPG_ONLY and value.lower() not in _PSYCOPG_ONLY[n])
    return next(beyond, None)


def needs_asyncpg(parameters: Iterable[str]) -> str | None:
    """Return the first of these parameters that only asyncpg has, None without one."""
    return next((name for name in parameters if name in _ASYNCPG_ONLY), None)


def advice(name: str, known: Iterable[str]) -> str:
    """Return what to do about a parameter that does not exist."""
    if name in _INSTEAD:
        return _INSTEAD[name]
    similar = difflib.get_close_matches(name.lower(), [*known], 1, 0.8)
    return f"did you mean {similar[0]}?" if similar else "leave it out"
