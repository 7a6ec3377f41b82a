"""ADK's state by scope: of a session, of a user in an app, and of an app."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from google.adk.sessions.state import State
from pydantic_core import to_jsonable_python

from taskctx_sql import ContextKey
from taskctx_sql.integrations import identity
from taskctx_sql.integrations.adk.events import FRAMEWORK

# What the names of apps' users begin with, and those of others that were escaped.
_RESERVED: Final = (f"{FRAMEWORK}:", f"{FRAMEWORK}%")


class Scopes(NamedTuple):
    """Values of each scope, by their names without the prefix."""

    session: dict[str, Any]
    user: dict[str, Any]
    app: dict[str, Any]

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Scopes:
        """Return the values by scope, as JSON. Those of one invocation ("temp:") are left out, as nobody keeps them."""
        scopes = cls({}, {}, {})
        for name, value in to_jsonable_python(dict(state), serialize_unknown=True, bytes_mode="base64").items():
            if name.startswith(State.APP_PREFIX):
                scopes.app[name.removeprefix(State.APP_PREFIX)] = value
            elif name.startswith(State.USER_PREFIX):
                scopes.user[name.removeprefix(State.USER_PREFIX)] = value
            elif not name.startswith(State.TEMP_PREFIX):
                scopes.session[name] = value
        return scopes

    def merged(self) -> dict[str, Any]:
        """Return the state as a session has it."""
        return {
            **self.session,
            **{State.APP_PREFIX + name: value for name, value in self.app.items()},
            **{State.USER_PREFIX + name: value for name, value in self.user.items()},
        }


NOTHING: Final = Scopes({}, {}, {})


def key_of_session(app_name: str, user_id: str, session_id: str) -> ContextKey:
    """Return the context of a session."""
    return identity.key(FRAMEWORK, owner_of(user_id), app_name, session_id)


def key_of_user(app_name: str, user_id: str) -> ContextKey:
    """Return the context that has the state of a user in an app."""
    return identity.key(FRAMEWORK, owner_of(user_id), app_name)


def key_of_app(app_name: str) -> ContextKey:
    """Return the context that has the state of an app. It belongs to a user of its own, which no person is."""
    return identity.key(FRAMEWORK, identity.shorten(f"{FRAMEWORK}:{app_name}"), app_name)


def owner_of(user_id: str) -> str:
    """Return the user of ADK's as the owner of contexts: the same, unless the name is like that of an app's user."""
    if user_id.startswith(_RESERVED):
        mark = len(FRAMEWORK)
        return FRAMEWORK + quote(user_id[mark], safe="") + user_id[mark + 1 :]
    return user_id


def user_of(owner: str) -> str:
    """Return the user of ADK's who owns a context; the reverse of `owner_of`."""
    for reserved in _RESERVED:
        escaped = owner_of(reserved)
        if owner.startswith(escaped):
            return reserved + owner.removeprefix(escaped)
    return owner
