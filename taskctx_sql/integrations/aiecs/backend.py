"""What a ``ContextEngine`` of aiecs writes beside its cache, in the tables of this library, and back."""

from __future__ import annotations

import importlib
import logging
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from taskctx_sql import ContextKey, ContextUpdate, ContextWriter, Store
from taskctx_sql.errors import RowLevelSecurityError, StaleContextError, TaskContextError
from taskctx_sql.integrations import identity, recording
from taskctx_sql.integrations.aiecs import snapshots
from taskctx_sql.integrations.opening import StoreSource

logger: logging.Logger = logging.getLogger(__name__)

FRAMEWORK: Final = "aiecs"
# How many sessions are remembered.
_SESSIONS: Final = 10_000
# Names of values.
_SESSION: Final = "session"
_CONVERSATION: Final = "conversation"
_ROLES: Final[dict[str, recording.Role]] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
}


class _Session:
    """A session that is written to."""

    def __init__(self, writer: ContextWriter, session_id: str) -> None:
        self.writer = writer
        self.labels: dict[str, str | None] | None = dict(identity.labels(FRAMEWORK, session=session_id))
        self.snapshots = snapshots.Snapshots(writer)


class PermanentBackend:
    """aiecs' ``IPermanentStorageBackend``, which can be read back.

        engine = ContextEngine(permanent_backend=PermanentBackend("sqlite:///tasks.db"))

    A session is one context: its messages and events are updates; its metrics, its checkpoints with their writes and
    the newest snapshot of its task's context are values by name. A thread's id and the key of a conversation are ids of
    sessions, too. A failure is logged, and raised as an error of this library, which the engine drops.
    """

    def __init__(self, store: Store | str, *, user_id: str = identity.ANONYMOUS) -> None:
        """Take a store.

        Args:
            store: An open store, which you close yourself, or a database URL, opened when it is first needed.
            user_id: Whose sessions are whose user no event has told, neither here nor in the store.
        """
        self._source = StoreSource(store)
        self._user_id = user_id
        self._sessions: OrderedDict[str, _Session] = OrderedDict()

    async def initialize(self) -> bool:
        """Open the store. The engine calls this if it has a Redis; without it, the first write does it."""
        await self._source.get()
        return True

    async def close(self) -> None:
        """End the runs of the sessions, and close a store that was opened here."""
        while self._sessions:
            await self._end(self._sessions.popitem()[1], await self._source.get())
        await self._source.close()

    # What the engine writes.

    async def append_session_event(
        self, session_id: str, user_id: str, event_type: str, payload: dict[str, Any], created_at: str | None = None
    ) -> bool:
        """Record that a session began, changed or ended; its end ends the run."""
        session = await self._session(session_id, user_id)
        event = {"event_type": event_type, "payload": payload}
        update = _update(recording.EVENT, event, created_at)
        ended = None
        if event_type == "end":
            ended = "failed" if payload.get("status") == "failed" else "completed"
        return await self._write(session, updates=[update], state={_SESSION: payload}, outcome=ended)

    async def append_conversation_message(
        self,
        session_id: str,
        role: str,
        content: str,
        metadata: dict[str, Any] | None = None,
        created_at: str | None = None,
    ) -> bool:
        """Record a message."""
        at = created_at or datetime.now(UTC).isoformat()
        message = {"role": role, "content": content, "timestamp": at, "metadata": metadata or {}}
        update = _update(recording.MESSAGE, message, at, role=_ROLES.get(role))
        return await self._write(await self._session(session_id), updates=[update])

    async def append_checkpoint(
        self,
        thread_id: str,
        checkpoint_id: str,
        checkpoint_data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        created_at: str | None = None,
    ) -> bool:
        """Record a checkpoint."""
        at = created_at or datetime.now(UTC).isoformat()
        named = {"checkpoint_id": checkpoint_id, "thread_id": thread_id}
        checkpoint = named | {"data": checkpoint_data, "metadata": metadata or {}, "created_at": at}
        update = _update(recording.CHECKPOINT, {"checkpoint_id": checkpoint_id}, at)
        state = {_checkpoint(checkpoint_id): checkpoint}
        return await self._write(await self._session(thread_id), updates=[update], state=state)

    async def append_checkpoint_writes(
        self,
        thread_id: str,
        checkpoint_id: str,
        task_id: str,
        writes_data: list[tuple[Any, ...]],
        created_at: str | None = None,
    ) -> bool:
        """Record what a task wrote after a checkpoint."""
        name = f"{_writes(checkpoint_id)}{quote(task_id, safe='')}"
        return await self._write(await self._session(thread_id), state={name: writes_data})

    async def append_conversation_session(
        self, session_key: str, session_data: dict[str, Any], created_at: str | None = None
    ) -> bool:
        """Record who takes part in a conversation."""
        return await self._write(await self._session(session_key), state={_CONVERSATION: session_data})

    async def append_task_context_snapshot(
        self, session_id: str, context_data: dict[str, Any], created_at: str | None = None
    ) -> bool:
        """Record a task's context as it is; of its history only what changed since the last snapshot."""
        session = await self._session(session_id)
        await session.snapshots.write(context_data, partial(self._write, session))
        return True

    # What the engine reads from its cache, by the same names; None or nothing if it was never written.

    async def get_session(self, session_id: str) -> dict[str, Any] | None:
        """Return a session's metrics, as ``SessionMetrics.to_dict`` does."""
        return await self._value(session_id, _SESSION)

    async def get_conversation_session(self, session_key: str) -> dict[str, Any] | None:
        """Return who takes part in a conversation."""
        return await self._value(session_key, _CONVERSATION)

    async def get_conversation_history(self, session_id: str, limit: int = 50) -> list[dict[str, Any]]:
        """Return the newest messages, oldest first, each as ``ConversationMessage.to_dict`` does."""
        return [update.data for update in await self._newest(session_id, recording.MESSAGE, limit)][::-1]

    async def get_task_context(self, session_id: str, *, revision: int | None = None) -> dict[str, Any] | None:
        """Return the newest snapshot of a task's context, or that of a revision, as ``TaskContext.to_dict`` does."""
        store, key = await self._place(session_id)
        return snapshots.read(await store.state(key, prefix=snapshots.PREFIX, revision=revision))

    async def get_checkpoint(self, thread_id: str, checkpoint_id: str | None = None) -> dict[str, Any] | None:
        """Return a checkpoint, or the newest one."""
        if checkpoint_id is None:
            return next(iter(await self.list_checkpoints(thread_id, 1)), None)
        return await self._value(thread_id, _checkpoint(checkpoint_id))

    async def list_checkpoints(self, thread_id: str, limit: int = 10) -> list[dict[str, Any]]:
        """Return the newest checkpoints, newest first."""
        written = await self._newest(thread_id, recording.CHECKPOINT, limit)
        names = dict.fromkeys(_checkpoint(update.data["checkpoint_id"]) for update in written)
        store, key = await self._place(thread_id)
        found = {entry.name: entry.value for entry in await store.state(key, *names)} if names else {}
        return [found[name] for name in names if name in found]

    async def get_writes(self, thread_id: str, checkpoint_id: str) -> list[tuple[Any, ...]]:
        """Return what the tasks wrote after a checkpoint, in the order of the tasks' ids."""
        store, key = await self._place(thread_id)
        there = await store.state(key, prefix=_writes(checkpoint_id))
        return [tuple(write) for entry in there for write in entry.value]

    async def restore(self, engine: Any, session_id: str, *, limit: int = 1000) -> bool:
        """Give an engine whose cache has lost a session its metrics, newest messages and task's context back.

        Args:
            engine: The engine.
            session_id: Which session.
            limit: How many messages.

        Returns:
            Whether the store has the session.
        """
        metrics, snapshot = await self.get_session(session_id), await self.get_task_context(session_id)
        if metrics is None:
            return False
        module = importlib.import_module("aiecs.domain.context.context_engine")
        history = await self.get_conversation_history(session_id, limit)
        # Its public functions would write all of it once more.
        await engine._store_session(module.SessionMetrics.from_dict(metrics))
        messages = [module.ConversationMessage.from_dict(message) for message in history]
        await engine._replace_conversation_history(session_id, messages)
        if snapshot is not None:
            await engine.store_task_context(session_id, engine._reconstruct_task_context(snapshot))
        return True

    async def _session(self, session_id: str, user_id: str | None = None) -> _Session:
        store, key = await self._place(session_id, user_id)
        session = self._sessions.get(session_id)
        if session is None or session.writer.key != key or session.writer.store is not store:
            session = self._sessions[session_id] = _Session(ContextWriter(store, key), session_id)
            if len(self._sessions) > _SESSIONS:
                await self._end(self._sessions.popitem(last=False)[1], store)
        self._sessions.move_to_end(session_id)
        return session

    @staticmethod
    async def _end(session: _Session, store: Store) -> None:
        # The store of another event loop cannot be used in this one.
        if session.writer.store is store:
            await session.writer.end()

    async def _place(self, session_id: str, user_id: str | None = None) -> tuple[Store, ContextKey]:
        """Return the store and the context of a session, whose user may have been told to another process."""
        store = await self._source.get()
        known = self._sessions.get(session_id)
        if user_id is None and known is not None:
            return store, known.writer.key
        if user_id is None:
            user_id = self._user_id
            labels = identity.labels(FRAMEWORK, session=session_id)
            try:
                found = await store.contexts(None, labels=labels, limit=1)
            except RowLevelSecurityError:
                found = ()
            if found:
                return store, ContextKey(found[0].user_id, found[0].chat_id)
        return store, identity.key(FRAMEWORK, user_id, session_id)

    async def _write(self, session: _Session, **content: Any) -> bool:
        try:
            saved = await session.writer.write(labels=session.labels, **content)
        except StaleContextError:
            raise
        except TaskContextError as error:
            logger.error("what aiecs wrote to %s is not recorded: %s", session.writer.key, error)
            raise
        session.labels = None
        if not saved.complete:
            session.snapshots.forget()
        return True

    async def _value(self, session_id: str, name: str) -> dict[str, Any] | None:
        store, key = await self._place(session_id)
        return next((entry.value for entry in await store.state(key, name)), None)

    async def _newest(self, session_id: str, update_type: str, limit: int) -> Sequence[ContextUpdate]:
        store, key = await self._place(session_id)
        newest = store.updates(key, types=(update_type,), newest_first=True, limit=limit)
        return [stored.update async for stored in newest]


def _update(update_type: str, data: Any, created_at: str | None, **named: Any) -> ContextUpdate:
    at = datetime.fromisoformat(created_at) if created_at else datetime.now(UTC)
    # The engine's times are in UTC, without saying so.
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return ContextUpdate(at.timestamp(), *recording.update(FRAMEWORK, update_type, data, **named))


def _checkpoint(checkpoint_id: str) -> str:
    return f"checkpoint/{quote(checkpoint_id, safe='')}"


def _writes(checkpoint_id: str) -> str:
    return f"writes/{quote(checkpoint_id, safe='')}/"
