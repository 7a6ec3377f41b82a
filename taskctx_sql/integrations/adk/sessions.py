"""A session service of ADK: each session is a context."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import replace
from typing import Any, Final, Self
from weakref import WeakKeyDictionary

from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.platform import uuid as platform_uuid
from google.adk.sessions.base_session_service import BaseSessionService, GetSessionConfig, ListSessionsResponse
from google.adk.sessions.session import Session
from typing_extensions import override

from taskctx_sql import ContextSummary, RunOutcome, Store, Write
from taskctx_sql.errors import InvalidIdError, LostContextError, StaleContextError
from taskctx_sql.integrations import identity
from taskctx_sql.integrations.adk.events import FRAMEWORK, model_use_of, updates_of
from taskctx_sql.integrations.adk.reading import (
    created_at,
    key_of,
    listed,
    mark,
    marked,
    read_events,
    read_revision,
    same_revision,
    shared_state,
    values,
)
from taskctx_sql.integrations.adk.state import NOTHING, Scopes, key_of_app, key_of_user, user_of
from taskctx_sql.integrations.adk.turns import Turn, Turns
from taskctx_sql.integrations.opening import StoreSource

# An id is a label, too.
MAX_LENGTH: Final = 255


class ContextSessionService(BaseSessionService):
    """Keeps ADK's sessions in the tables of taskctx_sql.

    A session is a context of its user. What is in ``session.state`` is its state; that of a user ("user:") and of an
    app ("app:") is in contexts of their own. An event and the changes of all three are written in one transaction.
    """

    def __init__(self, store: Store | str) -> None:
        """Keep sessions in a store.

        Args:
            store: An open store, which you close; or a database URL, which is opened at the first call in each event
                loop, and closed by `close`.
        """
        self._source = StoreSource(store)
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()

    @property
    def turns(self) -> Turns:
        """The turns that are written in the running event loop."""
        return self._turns.setdefault(asyncio.get_running_loop(), Turns())

    @override
    async def create_session(
        self, *, app_name: str, user_id: str, state: dict[str, Any] | None = None, session_id: str | None = None
    ) -> Session:
        """Create a session.

        Raises:
            AlreadyExistsError: The user has a session of this id in this app.
            InvalidIdError: An id is longer than 255 characters, or has characters that no database accepts.
            StoreError: The store failed.
        """
        store = await self.open()
        session_id = (session_id or "").strip() or platform_uuid.new_uuid()
        if len(session_id) > MAX_LENGTH:
            raise InvalidIdError("session_id", session_id, f"it is longer than {MAX_LENGTH} characters")
        session = Session(app_name=app_name, user_id=user_id, id=session_id)
        key, scopes = key_of(session), Scopes.of(state or {})
        labels = identity.labels(FRAMEWORK, app=app_name, session=session_id)
        new = Write(key, state=scopes.session, labels=labels, if_revision=0)
        try:
            saved, *_ = await store.write_together([new, *_shared_writes(session, scopes)])
        except StaleContextError as error:
            raise AlreadyExistsError(f"Session with id {session_id} already exists.") from error
        shared, session.last_update_time = await asyncio.gather(shared_state(store, session), created_at(store, key))
        session.state = shared._replace(session=scopes.session).merged()
        mark(session, saved.revision)
        return session

    @override
    async def get_session(
        self, *, app_name: str, user_id: str, session_id: str, config: GetSessionConfig | None = None
    ) -> Session | None:
        """Return a session with its events in the order in which they were appended, or None if there is none.

        Raises:
            StoreError: The store failed.
        """
        store = await self.open()
        session = Session(app_name=app_name, user_id=user_id, id=session_id.strip())
        key = key_of(session)
        # First of all: if something is newer than the revision, the next append finds the session stale.
        revision = await read_revision(store, key)
        if not revision:
            return None
        (newest, session.events), entries, shared = await asyncio.gather(
            read_events(store, key, config or GetSessionConfig()), store.state(key), shared_state(store, session)
        )
        session.state = shared._replace(session=values(entries)).merged()
        session.last_update_time = newest.timestamp if newest else await created_at(store, key)
        mark(session, revision)
        return session

    @override
    async def list_sessions(self, *, app_name: str, user_id: str | None = None) -> ListSessionsResponse:
        """Return a user's sessions, or those of all users, with their state and without events, by their last save.

        Raises:
            RowLevelSecurityError: All users are asked for, and this account sees one at a time.
            StoreError: The store failed.
        """
        store = await self.open()
        user = None if user_id is None else key_of_user(app_name, user_id).user_id
        labels = identity.labels(FRAMEWORK, app=app_name)
        found: list[ContextSummary] = []
        while page := await store.contexts(user, labels=labels, after=found[-1] if found else None, state=None):
            found += page
        users = {summary.user_id: key_of_user(app_name, user_of(summary.user_id)) for summary in found}
        keys = [*users.values(), key_of_app(app_name)]
        shared = dict(zip(keys, map(values, await asyncio.gather(*map(store.state, keys))), strict=True))
        sessions = [listed(app_name, summary) for summary in found]
        for session, summary in zip(sessions, found, strict=True):
            scopes = Scopes(dict(summary.state), shared[users[summary.user_id]], shared[keys[-1]])
            session.state = copy.deepcopy(scopes.merged())
        sessions.sort(key=lambda session: (session.last_update_time, session.user_id, session.id))
        return ListSessionsResponse(sessions=sessions)

    @override
    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Erase a session; the state of its user and its app stay."""
        store = await self.open()
        key = key_of(Session(app_name=app_name, user_id=user_id, id=session_id.strip()))
        self.turns.forget(key)
        await store.delete(key)

    @override
    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """Return the state of a user in an app, by names without "user:"."""
        store = await self.open()
        return values(await store.state(key_of_user(app_name, user_id)))

    @override
    async def append_event(self, session: Session, event: Event) -> Event:
        """Write an event, with the state that it changes and the use of a model that it reports, in one transaction.

        Raises:
            StaleSessionError: Another program appended to the session since it was read.
            SessionNotFoundError: The session was deleted.
            StoreError: The store failed.
        """
        if event.partial:
            return event
        self._apply_temp_state(session, event)
        event = self._trim_temp_delta_state(event)
        key = key_of(session)
        turn = self.turns.of(key, event.invocation_id)
        async with self.turns.lock(key):
            if turn.is_new:
                await self.turns.end_others(await self.open(), key, turn)
            use = model_use_of(event, turn.calls.pop(event.author, None))
            write = Write(key, updates_of(event), [use] if use is not None else ())
            answered = event.author != "user" and event.is_final_response()
            outcome: RunOutcome | None = "completed" if answered and not turn.is_followed else None
            await self.write(session, turn, write, Scopes.of(event.actions.state_delta), outcome=outcome)
            session.last_update_time = event.timestamp
            return await super().append_event(session, event)

    async def write(
        self, session: Session, turn: Turn, write: Write, scopes: Scopes = NOTHING, *, outcome: RunOutcome | None = None
    ) -> None:
        """Write to a session, unless another program appended an event to it; the turn's lock must be held.

        Args:
            session: As it was read; it is at the new revision then.
            turn: The turn that writes.
            write: What is written, without the state.
            scopes: The state to set.
            outcome: How the turn ended, if it did.

        Raises:
            StaleSessionError: Another program appended an event since the session was read.
            SessionNotFoundError: The session was deleted.
            StoreError: The store failed.
        """
        store = await self.open()
        shared = _shared_writes(session, scopes)
        revision = marked(session)
        while True:
            if revision is None:
                revision = await same_revision(store, session)
            try:
                write = replace(write, state=scopes.session, if_revision=revision)
                saved = await turn.write(store, write, shared, outcome=outcome)
            except LostContextError as error:
                raise SessionNotFoundError(f"Session {session.id} not found.") from error
            except StaleContextError:
                # Somebody wrote, but perhaps no event.
                revision = None
            else:
                break
        mark(session, saved.revision)

    async def flush(self) -> None:
        """Do nothing: what returned is written."""

    async def open(self) -> Store:
        """Return the store of the running event loop, which is opened at the first call."""
        return await self._source.get()

    async def close(self) -> None:
        """End the runs that a `RunPlugin` has seen begin and not end, as cancelled, and close what was opened here."""
        if self.turns.are_open:
            await self.turns.end_all(await self.open())
        await self._source.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


def _shared_writes(session: Session, scopes: Scopes) -> list[Write]:
    """Return what is to be written beside a session: the changes of its user's and its app's state."""
    contexts = [
        (key_of_user(session.app_name, session.user_id), scopes.user),
        (key_of_app(session.app_name), scopes.app),
    ]
    return [Write(key, state=state) for key, state in contexts if state]
