"""How a store connects to its database, for what an address cannot say, or should not."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Final

from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.limits import check_number, check_real

Password = str | Callable[[], str | Awaitable[str]]

_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SESSIONS: Final = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
# Not shown in messages.
_SECRETS: Final = frozenset({"password", "sslpassword", "driver_options"})
# Those that have the name and the meaning of a parameter of libpq, in an address.
_PARAMETERS: Final = (
    *("application_name", "connect_timeout", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword"),
    "target_session_attrs",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionOptions:
    """How `open_store` connects to Postgres. What is None is as the address says, or the default.

    What is given here wins over the address. On SQLite only ``lock_timeout`` has a meaning; what has none is refused
    there, with JSON files, and with an engine of the caller's.

    Args:
        pool_size: How many connections are kept, 1 or more; 10 by default.
        max_overflow: How many more are opened while all are in use; 10 by default.
        pool_recycle: After how many seconds a connection is replaced by a new one; by default it never is.
        application_name: What the server's logs and ``pg_stat_activity`` call the program; "taskctx_sql" by default.
        connect_timeout: How many seconds a host has to accept a connection; 10 by default.
        statement_timeout: After how many seconds the server ends a statement; by default as it is set there.
        lock_timeout: How many seconds a statement waits for a lock; by default as long as ``retry_seconds``.
        host: The host, or several in the order to try them, each with a port (``"db1:5433"``) or without, or the
            folder of a socket (``"/run/postgresql"``).
        target_session_attrs: Which of several hosts to take: "any", "read-write", "read-only", "primary", "standby"
            or "prefer-standby".
        sslmode: "disable", "allow", "prefer", "require", "verify-ca" or "verify-full".
        sslrootcert: The file with the certificates to trust, or "system" for those that the system trusts.
        sslcert: The file with the client's certificate.
        sslkey: The file with its private key.
        sslpassword: The password of that key.
        password: The password, or a function that returns it, async or not, which is called for each new connection:
            a cloud's token expires. One that is not async is called on a thread.
        driver_options: Arguments for the driver's ``connect``, by name: asyncpg's or psycopg's.

    Raises:
        InvalidArgumentError: A value is not allowed.
    """

    pool_size: int | None = None
    max_overflow: int | None = None
    pool_recycle: float | None = None
    application_name: str | None = None
    connect_timeout: float | None = None
    statement_timeout: float | None = None
    lock_timeout: float | None = None
    host: str | Sequence[str] | None = None
    target_session_attrs: str | None = None
    sslmode: str | None = None
    sslrootcert: str | None = None
    sslcert: str | None = None
    sslkey: str | None = None
    sslpassword: str | None = field(default=None, repr=False)
    password: Password | None = field(default=None, repr=False)
    driver_options: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    def __post_init__(self) -> None:
        """Check all values."""
        check_number("pool_size", self.pool_size, 1, optional=True)
        check_number("max_overflow", self.max_overflow, 0, optional=True)
        for name in ("pool_recycle", "connect_timeout", "statement_timeout", "lock_timeout"):
            _check_seconds(name, getattr(self, name))
        for name in ("application_name", "sslrootcert", "sslcert", "sslkey", "sslpassword"):
            self._check(name, _is_text, None, "a text that is not empty")
        self._check("sslmode", _is_one, _MODES, f"one of {', '.join(_MODES)}")
        self._check("target_session_attrs", _is_one, _SESSIONS, f"one of {', '.join(_SESSIONS)}")
        self._check("password", _is_password, None, "a text, or a function that returns one")
        self._check("driver_options", _is_mapping, None, "a mapping of the driver's arguments by their names")
        if self.host is not None:
            hosts = (self.host,) if isinstance(self.host, str) else self.host
            if not isinstance(hosts, Sequence) or not hosts or not all(_is_text(host, None) for host in hosts):
                raise InvalidArgumentError("host", self.host, "a host, or a sequence of them")
            object.__setattr__(self, "host", ",".join(hosts))
        object.__setattr__(self, "driver_options", MappingProxyType(dict(self.driver_options)))

    def _check(self, name: str, is_allowed: Callable[[Any, Any], bool], limit: object, allowed: str) -> None:
        value = getattr(self, name)
        if value is not None and not is_allowed(value, limit):
            raise InvalidArgumentError(name, "***" if name in _SECRETS else value, allowed)

    @property
    def parameters(self) -> dict[str, str]:
        """Those that an address may have, by the names that they have there."""
        values = {name: getattr(self, name) for name in _PARAMETERS}
        return {name: str(value) for name, value in values.items() if value is not None}

    def only(self, allowed: Sequence[str], where: str) -> None:
        """Raise InvalidArgumentError for the first argument that is set and not one of those allowed."""
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in allowed or value is None or (each.name == "driver_options" and not value):
                continue
            shown = "***" if each.name in _SECRETS else value
            raise InvalidArgumentError(each.name, shown, f"it with the address of a Postgres only, since {where}")


def _check_seconds(name: str, value: Any) -> None:
    allowed = "a number of seconds above 0"
    if value is None:
        return
    check_real(name, value, allowed)
    if not 0 < value < math.inf:
        raise InvalidArgumentError(name, value, allowed)


def _is_text(value: object, _: None) -> bool:
    return isinstance(value, str) and value != "" and "\x00" not in value


def _is_one(value: object, values: Sequence[str]) -> bool:
    return value in values


def _is_password(value: object, _: None) -> bool:
    return isinstance(value, str) or callable(value)


def _is_mapping(value: object, _: None) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


DEFAULT_CONNECTION: Final = ConnectionOptions()
