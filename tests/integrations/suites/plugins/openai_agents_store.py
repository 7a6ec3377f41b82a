"""A pytest plugin that puts our session in place of three of openai-agents' own, before its tests import them.

What they keep in one database, ours keeps for one user: a file is a user, and so is each database in memory.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from typing import Any
from weakref import WeakKeyDictionary

import agents
import agents.extensions.memory as extensions
import agents.memory
import agents.memory.sqlite_session
import pytest_asyncio
from agents.extensions.memory import advanced_sqlite_session, sqlalchemy_session

from taskctx_sql.integrations.openai_agents import ContextSession

URL = os.environ["TASKCTX_SUITE_DATABASE_URL"]
# Of this run: all of it is in one database.
RUN = uuid.uuid4().hex[:8]
opened: list[ContextSession] = []
users: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def user_of(database: Any) -> str:
    """The user who has what is in a database."""
    shared = database is not None and ":memory:" not in str(database)
    return f"{RUN} {str(database)[-200:]}" if shared else f"{RUN} {uuid.uuid4().hex}"


class InPlaceOfSQLite(ContextSession):
    """Our session, with the arguments of `SQLiteSession` and `AdvancedSQLiteSession`."""

    def __init__(
        self, session_id: str, db_path: Any = ":memory:", *, session_settings: Any = None, **ignored: Any
    ) -> None:
        super().__init__(session_id, URL, user_id=user_of(db_path), session_settings=session_settings)
        opened.append(self)

    _was_closed = False

    @property
    def _current_branch_id(self) -> str:
        return self.current_branch

    async def _store(self) -> Any:
        if self._was_closed:
            # Theirs has another text.
            raise RuntimeError("SQLiteSession is closed")
        return await super()._store()

    def close(self, error: BaseException | None = None) -> Any:
        """As theirs, it takes effect without being awaited."""
        self._was_closed = True
        closing = super().close(error)
        try:
            return asyncio.get_running_loop().create_task(closing)
        except RuntimeError:
            return asyncio.run(closing)


class InPlaceOfSQLAlchemy(ContextSession):
    """Our session, with the arguments of `SQLAlchemySession`."""

    def __init__(self, session_id: str, *, engine: Any, session_settings: Any = None, **ignored: Any) -> None:
        # The same engine is the same database, also if it is in memory.
        user = users.setdefault(engine.sync_engine, user_of(engine.url.database))
        super().__init__(session_id, URL, user_id=user, session_settings=session_settings)
        self._engine = engine
        opened.append(self)

    @classmethod
    def from_url(cls, session_id: str, *, url: str, engine_kwargs: Any = None, **more: Any) -> Any:
        """Create one from an address, as theirs."""
        from sqlalchemy.ext.asyncio import create_async_engine

        return cls(session_id, engine=create_async_engine(url, **(engine_kwargs or {})), **more)

    @property
    def engine(self) -> Any:
        """The engine that it was given."""
        return self._engine


for place in (agents, agents.memory, agents.memory.sqlite_session):
    place.SQLiteSession = InPlaceOfSQLite  # type: ignore[misc]
for place in (extensions, advanced_sqlite_session):
    place.AdvancedSQLiteSession = InPlaceOfSQLite
for place in (extensions, sqlalchemy_session):
    place.SQLAlchemySession = InPlaceOfSQLAlchemy


@pytest_asyncio.fixture(autouse=True, loop_scope="function")
async def close_what_a_test_left_open() -> AsyncIterator[None]:
    """Close the stores of a test's event loops before it ends."""
    yield
    while opened:
        session = opened.pop()
        await ContextSession.close(session)
        # `Runner.run_sync` has a loop of its own, in a thread.
        for loop, opening in list(session._source._openings.items()):
            if not loop.is_closed() and not loop.is_running():
                await asyncio.to_thread(loop.run_until_complete, opening.stores.aclose())
