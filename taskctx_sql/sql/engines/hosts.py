"""The hosts of an address of Postgres: several, with ports, or folders of sockets, however they are written."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote

import sqlalchemy as sa

from taskctx_sql.errors import InvalidDatabaseUrlError

DEFAULT_PORT: Final = "5432"

# The hosts of libpq between the user and the database: several, or one that is the folder of a socket.
_AUTHORITY: Final = re.compile(
    r"(postgres(?:ql)?(?:\+\w+)?://)([^/?#]*@)?([^/?#@]*)(/[^?#]*)?(?:\?([^#]*))?", re.DOTALL
)
# Of several hosts, each with its port.
_HOST: Final = re.compile(r"(\[[^\]]*\]|[^:,]*)(?::(\d*))?")
_WITH_PORT: Final = re.compile(r"([\w.-]+|\[[0-9A-Fa-f:.%\w]+\]):(\d+)")


def in_query(database_url: str) -> str:
    """Return a URL whose hosts are parameters if there are several, or one that is a folder, which SQLAlchemy needs."""
    found = _AUTHORITY.fullmatch(database_url)
    if found is None:
        return database_url
    scheme, user, hosts, path, query = found.groups(default="")
    is_folder = unquote(hosts).startswith("/")
    if "," not in hosts and not is_folder:
        return database_url
    parts = [_HOST.fullmatch(host) for host in hosts.split(",")]
    if not all(parts):
        return database_url
    names = ",".join(unquote(part[1].strip("[]")) for part in parts if part is not None)
    ports = ",".join(part[2] or DEFAULT_PORT for part in parts if part is not None)
    given = f"host={quote(names, safe=',/')}" + ("" if is_folder and ":" not in hosts else f"&port={ports}")
    return f"{scheme}{user}{path or '/'}?{given}{'&' if query else ''}{query}"


def with_hosts(url: sa.URL) -> sa.URL:
    """Return a URL whose several hosts are one parameter, and their ports another with as many."""
    given = url.normalized_query.get("host", ())
    hosts = [host for value in given for host in value.split(",")]
    ports = [port for value in url.normalized_query.get("port", ()) for port in value.split(",")]
    if not hosts:
        return url
    pairs = [_WITH_PORT.fullmatch(host) for host in hosts]
    if any(pairs):
        if ports:
            return url
        hosts = [pair[1].strip("[]") if pair else host for pair, host in zip(pairs, hosts, strict=True)]
        ports = [pair[2] if pair else DEFAULT_PORT for pair in pairs]
    if len(hosts) > 1 and not ports:
        ports = [str(url.port or DEFAULT_PORT)]
    if len(hosts) > 1 and len(ports) == 1:
        ports *= len(hosts)
    query = {"host": ",".join(hosts)} | ({"port": ",".join(port or DEFAULT_PORT for port in ports)} if ports else {})
    return url.difference_update_query(["host", "port"]).update_query_dict(query)


def check_hosts(url: sa.URL, shown: str) -> None:
    """Raise InvalidDatabaseUrlError if the hosts and ports do not belong together."""
    hosts = str(url.query.get("host", "")).split(",")
    ports = str(url.query.get("port", "")).split(",")
    if ports != [""] and len(ports) != len(hosts):
        raise InvalidDatabaseUrlError(shown, f"the parameter port has {len(ports)} values for {len(hosts)} hosts")
    if not all(port == "" or (port.isdecimal() and 0 < int(port) < 65_536) for port in ports):
        raise InvalidDatabaseUrlError(shown, "the parameter port must be a port, or one for each host")
    if len(hosts) > 1 and not all(hosts):
        raise InvalidDatabaseUrlError(shown, "the parameter host has an empty host among several")
