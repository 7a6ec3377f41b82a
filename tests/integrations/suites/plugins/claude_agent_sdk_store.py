"""Puts our session store in the place of the SDK's store in memory, each with a user of its own."""

from __future__ import annotations

import os
import uuid

import anyio
import claude_agent_sdk
from claude_agent_sdk._internal import session_store as sdk_store

from taskctx_sql import ContextKey, blocking, open_store
from taskctx_sql.integrations.claude_agent_sdk import ContextSessionStore

# The tests run in event loops of their own, and look into the store without one.
_store = open_store(os.environ["TASKCTX_SUITE_DATABASE_URL"]).__enter__()


class SuiteSessionStore:
    """Our store, on the library's own event loop."""

    def __init__(self) -> None:
        self._sessions = ContextSessionStore(_store, user_id=uuid.uuid4().hex)
        # Tests set times here.
        self._mtimes = {}

    async def append(self, key, entries):
        return await self._call(self._sessions.append, key, entries)

    async def load(self, key):
        return await self._call(self._sessions.load, key)

    async def list_sessions(self, project_key):
        listed = await self._call(self._sessions.list_sessions, project_key)
        for entry in listed:
            entry["mtime"] = self._mtimes.get(f"{project_key}/{entry['session_id']}", entry["mtime"])
        return listed

    async def list_session_summaries(self, project_key):
        return await self._call(self._sessions.list_session_summaries, project_key)

    async def delete(self, key):
        return await self._call(self._sessions.delete, key)

    async def list_subkeys(self, key):
        return await self._call(self._sessions.list_subkeys, key)

    async def _call(self, function, *arguments):
        return await anyio.to_thread.run_sync(lambda: blocking(function(*arguments)))

    # What only the store in memory has, for tests.

    def get_entries(self, key):
        return blocking(self._sessions.load(key)) or []

    @property
    def size(self):
        contexts = blocking(_store.contexts(self._sessions._user_id))
        return sum(context.labels["transcript"] == "session" for context in contexts)

    def clear(self):
        for context in blocking(_store.contexts(self._sessions._user_id)):
            blocking(_store.delete(ContextKey(context.user_id, context.chat_id)))


claude_agent_sdk.InMemorySessionStore = sdk_store.InMemorySessionStore = SuiteSessionStore
