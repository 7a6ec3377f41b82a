"""The attributes of the semantic conventions for databases: of an address, of an error, of a call's context."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from taskctx_sql.model import ContextKey, Delta

Attributes = dict[str, str | int]

_DEFAULT_PORT: Final = 5432
# Under which names errors of drivers have the database's own code: those of Postgres, and those of SQLite.
_CODES: Final = ("sqlstate", "sqlite_errorname")


@lru_cache(maxsize=1024)
def of_database(database_url: str, schema: str | None) -> Mapping[str, str | int]:
    """Return what names a database, from its URL, in which any password is masked."""
    try:
        parts = urlsplit(database_url)
        port = parts.port
    except ValueError:
        # A store of another package may write its address as it likes.
        return {"db.system.name": database_url.partition(":")[0]}
    system = parts.scheme.partition("+")[0]
    found: Attributes = {"db.system.name": system}
    if system != "postgresql":
        # The slash that ends the empty host is no part of the path.
        if path := parts.path[1:]:
            found["db.namespace"] = path if system == "sqlite" else unquote(path)
        if parts.hostname:
            found["server.address"] = parts.hostname
        return found
    if names := [name for name in (unquote(parts.path.lstrip("/")), schema) if name]:
        found["db.namespace"] = "|".join(names)
    query = parse_qs(parts.query)
    hosts = [parts.hostname] if parts.hostname else ",".join(query.get("host", [])).split(",")
    ports = [str(port)] if port else ",".join(query.get("port", [])).split(",")
    # Of several hosts, it is not known here which one answers.
    if len(hosts) == 1 and hosts[0]:
        found["server.address"] = hosts[0]
        if ports[0].isdecimal() and int(ports[0]) != _DEFAULT_PORT:
            found["server.port"] = int(ports[0])
    return found


def of_error(error: BaseException) -> Attributes:
    """Return an error's type, and the code that the database gave for it. Its message may name users and chats."""
    found: Attributes = {"error.type": type(error).__name__}
    for cause in _causes(error):
        for name in _CODES:
            if isinstance(code := getattr(cause, name, None), str):
                return found | {"db.response.status_code": code}
    return found


def of_context(arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Attributes:
    """Return the ids of the user and the chat that a call of a store is about."""
    first = arguments[0] if arguments else keywords.get("user_id")
    key = first.key if isinstance(first, Delta) else first
    if isinstance(key, ContextKey):
        return {"user.id": key.user_id, "gen_ai.conversation.id": key.chat_id}
    user_id = keywords.get("user_id", key)
    return {"user.id": user_id} if isinstance(user_id, str) else {}


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    seen = set[int]()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__
