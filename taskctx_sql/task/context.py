"""TaskContext: where it is kept, entering and leaving, and copies."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from taskctx_sql import settings
from taskctx_sql.concurrency import blocking, shielded
from taskctx_sql.context import Clock, MemoryContext, plain_entry
from taskctx_sql.errors import TaskContextError, UnreadableFileError
from taskctx_sql.errors.base import add_note
from taskctx_sql.json_files import JsonStore
from taskctx_sql.limits import check_number
from taskctx_sql.model import RunOutcome, Selection
from taskctx_sql.stores import ContextStore
from taskctx_sql.task.storage import Storage
from taskctx_sql.task.stored_context import StoredContext

logger: logging.Logger = logging.getLogger(__name__)

# What a copy of a context creates for itself.
_OWN: Final = frozenset(
    {"_clock", "_depth", "_load_error", "_memory", "_persistence", "_storage", "_resources", "_unsaved", "_was_read"}
)


class TaskContext(StoredContext):
    """What a task did, in memory and in a store.

    It is kept in the first of these that is given: ``store``, ``database_url``, the variable ``TASKCTX_DATABASE_URL``,
    JSON files in ``task_dir``. With ``AIECS_ENABLE_PERSISTENCE=false`` the last two are off, and the context stays in
    memory.

    JSON files are read by the constructor; a database is read on entering (``with`` or ``async
    with``) or by `load`. Leaving closes the resources, and then saves.
    """

    def __init__(
        self,
        data: Mapping[str, Any],
        task_dir: str | Path | None = None,
        *,
        store: ContextStore | None = None,
        database_url: str | None = None,
        history_limit: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Create a context, and read its JSON file if that is where it is kept.

        Args:
            data: user_id, chat_id, metadata, metadata_toggles, aiPreference; all optional.
            task_dir: The folder of JSON files; without it, ``AIECS_TASK_DIR``.
            store: An open store, which you close yourself.
            database_url: What `open_store` takes; opened on entering, and closed on leaving.
            history_limit: How many of the newest updates are loaded; `earlier_updates` yields the others.
            clock: Returns the time in seconds since the epoch; the system's clock by default.

        Raises:
            InvalidContextError: The data, or a mapping in it, is not a dict.
            InvalidDatabaseUrlError: ``task_dir`` cannot be a folder.
            InvalidSettingError: A required environment variable has an invalid value.
        """
        super().__init__(data, task_dir, clock=clock)
        check_number("history_limit", history_limit, 0, optional=True)
        url = None if store is not None else database_url
        files: JsonStore | None = None
        if store is None and url is None and settings.enable_persistence():
            url = settings.database_url()
            files = JsonStore(self.task_dir) if url is None else None
        self._bind(Storage(files if store is None else store, url), history_limit)
        if files is not None:
            self._read_json(files)

    def _read_json(self, store: JsonStore) -> None:
        self._was_read = True
        try:
            self._unsaved.adopt(store.load_now(self.key, Selection(self._persistence.history_limit)))
        except TaskContextError as error:
            # The original's constructor raises nothing; load() will.
            self._load_error = error
            logger.error("the context starts with an empty history: %s", error)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickle gets: everything but the store, the resources and the clock.

        Two contexts cannot both track the same rows.
        """
        memory = self._memory
        return {
            "user_id": self.user_id,
            "chat_id": self.chat_id,
            "metadata": self.metadata,
            "metadata_toggles": self.metadata_toggles,
            "history_limit": self._persistence.history_limit,
            "context_history": memory.own_history(),
            "file_tracker": {path: plain_entry(entry) for path, entry in memory.files.items()},
            "model_tracker": [plain_entry(entry) for entry in memory.models],
            # Including those of the program and of subclasses.
            "attributes": {name: value for name, value in vars(self).items() if name not in _OWN},
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Set up a copy from what `__getstate__` returned."""
        given = ("user_id", "chat_id", "metadata", "metadata_toggles")
        MemoryContext.__init__(self, {name: state[name] for name in given}, state["attributes"]["task_dir"])
        self._bind(Storage(), state["history_limit"])
        for name in ("context_history", "file_tracker", "model_tracker"):
            setattr(self, name, state[name])
        vars(self).update(state["attributes"])

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
        try:
            await self._resources.close_all()
        finally:
            # Completed even if it is cancelled repeatedly: saving may take several attempts, and closing follows.
            await shielded(self._leave(ended_at, error))

    def _begin(self) -> None:
        self.start_time: float | None = self._now()
        if self._depth == 0:
            self._persistence.begin_run(self.start_time)

    async def _open_and_load(self) -> None:
        self._depth += 1
        if self._depth > 1:
            return
        try:
            await self._storage.enter()
            if self._was_read:
                self._was_read = False
            else:
                # The file is set aside and logged: the task starts with an empty history, as with the original.
                with contextlib.suppress(UnreadableFileError):
                    await self.load()
        except BaseException:
            self._depth -= 1
            await self._storage.leave()
            raise

    async def _leave(self, ended_at: float, error: BaseException | None) -> None:
        self._depth -= 1
        try:
            if self._depth == 0:
                self._persistence.end_run(ended_at, *_outcome(error))
            await self.save()
        except Exception as failure:
            if getattr(failure, "denied", False) and not self.has_unsaved_changes:
                # Where only reading is allowed, a program that only read loses nothing.
                logger.warning("the end of the run could not be recorded: %s", failure)
                return
            if error is None:
                raise
            # The caller must see the body's error.
            add_note(error, failure, "saving the context")
            logger.error("the context could not be saved after an error: %s", failure)
        finally:
            if self._depth == 0:
                await self._storage.leave()


def task_context(
    data: Mapping[str, Any],
    task_dir: str | Path | None = None,
    *,
    store: ContextStore | None = None,
    database_url: str | None = None,
    history_limit: int | None = None,
) -> TaskContext:
    """Return a context to be entered, with ``async with`` or ``with``: opened, loaded, and at the end saved.

    The arguments are those of `TaskContext`.
    """
    return TaskContext(data, task_dir, store=store, database_url=database_url, history_limit=history_limit)


def build_context(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the dictionary of a new context, without a store."""
    return MemoryContext(data).to_dict()


# What ends a block from outside: a task that is cancelled, an interrupt, and a generator that is closed, as that of a
# streamed answer is when its client leaves.
_CANCELLATIONS = (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit)


def _outcome(error: BaseException | None) -> tuple[RunOutcome, str | None]:
    if error is None:
        return "completed", None
    text = type(error).__name__
    if isinstance(error, _CANCELLATIONS):
        # Its text, if any, is about the tasks and scopes of the event loop.
        return "cancelled", text
    # A program's error may have no text.
    with contextlib.suppress(Exception):
        text = f"{text}: {error}"
    return "failed", text
