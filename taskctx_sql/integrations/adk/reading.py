"""Reading a session: its context, its events, its state, and whether it is the one that is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from google.adk.errors._stale_session_error import StaleSessionError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.session import Session

from taskctx_sql import ContextKey, ContextSummary, StateEntry, Store
from taskctx_sql.errors import ContextNotFoundError
from taskctx_sql.integrations import identity
from taskctx_sql.integrations.adk.events import EVENT_TYPES, event_of
from taskctx_sql.integrations.adk.state import Scopes, key_of_app, key_of_session, key_of_user, user_of


def key_of(session: Session) -> ContextKey:
    """Return the context of a session."""
    return key_of_session(session.app_name, session.user_id, session.id)


def mark(session: Session, revision: int) -> None:
    """Note the revision that a session was read or written at, where ADK's own services note it."""
    session._storage_update_marker = str(revision)


def marked(session: Session) -> int | None:
    """Return that revision, or None: the session came from elsewhere, such as JSON."""
    marker = session._storage_update_marker
    return int(marker) if marker and marker.isdecimal() else None


async def same_revision(store: Store, session: Session) -> int:
    """Return the revision of the stored session, whose newest event is that of this one.

    Raises:
        StaleSessionError: Its newest event is another one.
        SessionNotFoundError: There is no such session.
    """
    key = key_of(session)
    revision = await read_revision(store, key)
    if not revision:
        raise SessionNotFoundError(f"Session {session.id} not found.")
    newest, _ = await read_events(store, key, GetSessionConfig(num_recent_events=0))
    if (newest and newest.id) != (session.events[-1].id if session.events else None):
        raise StaleSessionError(
            "The session has been modified in storage since it was loaded. "
            "Please reload the session before appending more events."
        )
    return revision


async def read_revision(store: Store, key: ContextKey) -> int:
    """Return a session's revision; 0 if there is none."""
    try:
        (newest,) = await store.revisions(key, limit=1)
    except ContextNotFoundError:
        return 0
    return newest.revision


async def read_events(store: Store, key: ContextKey, config: GetSessionConfig) -> tuple[Event | None, list[Event]]:
    """Return a session's newest event, and those that are asked for."""
    limit, since = config.num_recent_events, config.after_timestamp
    # The newest one in any case: it is as old as the session's last change.
    at_most = None if limit is None else max(limit, 1)
    if since is None:
        events = [Event.model_validate(data) for data in await store.data(key, types=EVENT_TYPES, limit=at_most)]
        return (events[-1] if events else None), ([] if limit == 0 else events)
    newest: Event | None = None
    events = []
    async for stored in store.updates(key, newest_first=True, types=EVENT_TYPES, limit=at_most):
        event = event_of(stored.update)
        newest = newest or event
        if limit == 0 or event.timestamp < since:
            break
        events.append(event)
    return newest, events[::-1]


def listed(app_name: str, summary: ContextSummary) -> Session:
    """Return a session of a list, without its state."""
    session_id = identity.last_part(summary.chat_id, summary.labels["session"])
    session = Session(app_name=app_name, user_id=user_of(summary.user_id), id=session_id)
    session.last_update_time = summary.updated_at
    return session


async def created_at(store: Store, key: ContextKey) -> float:
    """Return when a session was created, seconds since the epoch."""
    (framework,) = await store.state(key, "framework", kind="label")
    return framework.saved_at


async def shared_state(store: Store, session: Session) -> Scopes:
    """Return the state of a session's user and app."""
    user, app = await asyncio.gather(
        store.state(key_of_user(session.app_name, session.user_id)), store.state(key_of_app(session.app_name))
    )
    return Scopes({}, values(user), values(app))


def values(entries: Sequence[StateEntry]) -> dict[str, Any]:
    """Return values by name."""
    return {entry.name: entry.value for entry in entries}
