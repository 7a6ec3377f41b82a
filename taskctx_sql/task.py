"""TaskContext: a context that is entered and left, with what it holds open."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from taskctx_sql.context import MemoryContext
from taskctx_sql.errors import UnreadableFileError, add_note
from taskctx_sql.opening import open_store
from taskctx_sql.records import Outcome
from taskctx_sql.settings import DEFAULT_TASK_DIR
from taskctx_sql.store import Store
from taskctx_sql.stored import new_run
from taskctx_sql.sync import blocking
from taskctx_sql.traveling import TravelingContext

logger = logging.getLogger(__name__)


class TaskContext(TravelingContext):
    """What a task did, in memory and in a store.

    Where it is kept, the first of these that is given: ``store``; ``database_url``; the variable
    ``TASKCTX_DATABASE_URL``; JSON files in ``task_dir``. With ``AIECS_ENABLE_PERSISTENCE=false`` the last two are
    off, and the context stays in memory.

    JSON files are read here, as the original did; a database is read on entering (``with`` or ``async with``) or
    by `load`. Leaving closes the resources, and then saves.
    """

    # Entering and leaving.

    def __enter__(self) -> TaskContext:
        self._begin()
        blocking(self._open_and_load())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ended_at = self._now()

        try:
            self._resources.close_all_here(blocking)
        finally:
            blocking(self._leave(ended_at, error))

    async def __aenter__(self) -> TaskContext:
        self._begin()
        await self._open_and_load()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ended_at = self._now()

        async def settle(result: Awaitable[Any]) -> None:
            await result

        try:
            await self._resources.close_all(settle)
        finally:
            await self._leave(ended_at, error)

    # How.

    def _begin(self) -> None:
        self.start_time = self._now()
        if self._depth == 0:
            self._run = new_run(self.start_time)

    async def _open_and_load(self) -> None:
        self._depth += 1
        if self._depth > 1:
            return
        try:
            if self._store is None and self._url is not None:
                self._opened = await open_store(self._url)
            if self._was_read:
                self._was_read = False
            else:
                # It is logged, and set aside whole: the task goes on with an empty history, as with the original.
                with contextlib.suppress(UnreadableFileError):
                    await self.load()
        except BaseException:
            self._depth -= 1
            await self._close_opened()
            raise

    async def _leave(self, ended_at: float, error: BaseException | None) -> None:
        self._depth -= 1
        try:
            if self._depth == 0 and self._run is not None:
                self._run = replace(self._run, ended_at=ended_at, **_outcome(error))
            await self.save()
        except Exception as failure:
            if error is None:
                raise
            # The body's own error is what the caller must see.
            add_note(error, failure, "saving the context")
            logger.error("the context could not be saved after an error: %s", failure)
        finally:
            if self._depth == 0:
                await self._close_opened()

    async def _close_opened(self) -> None:
        store, self._opened = self._opened, None
        if store is not None:
            await store.close()


def task_context(
    data: Mapping[str, Any],
    task_dir: str | Path = DEFAULT_TASK_DIR,
    *,
    store: Store | None = None,
    database_url: str | None = None,
    history_limit: int | None = None,
) -> TaskContext:
    """Return a context to be entered, with ``async with`` or ``with``: opened, loaded, and at the end saved.

    The arguments are those of `TaskContext`.
    """
    return TaskContext(data, task_dir, store=store, database_url=database_url, history_limit=history_limit)


def build_context(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the dictionary of a new context, without touching any store."""
    return MemoryContext(data).to_dict()


def _outcome(error: BaseException | None) -> dict[str, Any]:
    outcome: Outcome
    if error is None:
        return {"outcome": "completed", "error": None}
    outcome = "cancelled" if isinstance(error, asyncio.CancelledError) else "failed"
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:
        text = type(error).__name__
    return {"outcome": outcome, "error": text}
