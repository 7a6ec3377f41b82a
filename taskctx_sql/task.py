"""TaskContext: the context in memory, bound to a place where it is kept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from taskctx_sql import settings
from taskctx_sql.context import Clock, MemoryContext
from taskctx_sql.errors import (
    ContextNotFoundError,
    InvalidContextError,
    LimitExceededError,
    LostContextError,
    PastContextError,
    StaleContextError,
    StoreError,
    TaskContextError,
    UnreadableFileError,
    UnsavedChangesError,
    UnstorableValueError,
    UnsupportedByStoreError,
    add_note,
)
from taskctx_sql.json_store import JsonStore
from taskctx_sql.opening import open_store
from taskctx_sql.optimize import updates_until
from taskctx_sql.records import ContextUpdate, Delta, Operation, Outcome, Run
from taskctx_sql.revisions import Revision
from taskctx_sql.selection import Selection
from taskctx_sql.settings import DEFAULT_TASK_DIR
from taskctx_sql.store import Feature, Store
from taskctx_sql.sync import blocking

logger = logging.getLogger(__name__)


class TaskContext(MemoryContext):
    """What a task did, in memory and in a store.

    Where it is kept, the first of these that is given: ``store``; ``database_url``; the variable
    ``TASKCTX_DATABASE_URL``; JSON files in ``task_dir``. With ``AIECS_ENABLE_PERSISTENCE=false`` the last two are
    off, and the context stays in memory.

    JSON files are read here, as the original did; a database is read on entering (``with`` or ``async with``) or
    by `load`. Leaving closes the resources, and then saves.
    """

    def __init__(
        self,
        data: Mapping[str, Any],
        task_dir: str | Path = DEFAULT_TASK_DIR,
        *,
        store: Store | None = None,
        database_url: str | None = None,
        history_limit: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Make a context, and read its JSON file if that is where it is kept.

        Args:
            data: user_id, chat_id, metadata, metadata_toggles, aiPreference; all optional.
            task_dir: The folder of JSON files; without it, ``AIECS_TASK_DIR``.
            store: An open store, which you close yourself.
            database_url: What `open_store` takes; opened on entering, and closed on leaving.
            history_limit: Read only the newest updates, this many; `earlier_updates` has the others.
            clock: What tells the time, in seconds since the epoch; the system's clock if not given.

        Raises:
            InvalidContextError: The data, or a mapping in it, is no dict.
            InvalidSettingError: A variable that was needed has a value that is not allowed.
        """
        super().__init__(data, task_dir, clock=clock)
        if history_limit is not None and (not isinstance(history_limit, int) or history_limit < 0):
            raise InvalidContextError("history_limit", history_limit, "None or a whole number, 0 or more")
        self._history_limit = history_limit
        self._store = store
        self._url = None if store is not None else database_url
        self._opened: Store | None = None
        self._depth = 0
        self._run: Run | None = None
        self._in_doubt: Delta | None = None
        # A restore was written, and what it made current is not in memory yet.
        self._must_load = False
        # The constructor read the file already; what it could only log, load() raises.
        self._was_read = False
        self._load_error: TaskContextError | None = None
        self._turn: asyncio.Lock | None = None
        self._turn_loop: asyncio.AbstractEventLoop | None = None
        if self._store is None and self._url is None and settings.enable_persistence():
            self._url = settings.database_url()
            if self._url is None:
                self._store = JsonStore(self.task_dir)
                self._read_json(self._store)

    # Loading and saving.

    async def load(
        self,
        *,
        revision: int | None = None,
        at: float | None = None,
        max_chars: int | None = None,
        types: Sequence[str] | None = None,
        keep_types: Sequence[str] = (),
    ) -> None:
        """Take what the store holds; what is unsaved here is kept on top of it.

        An earlier state is shown as it was, and cannot be saved: `restore` and `fork` go on from it, and another
        `load` comes back to the present.

        Args:
            revision: Show the state in this revision.
            at: Show the state at this time, seconds since the epoch, UTC.
            max_chars: Only the newest updates whose data fits into so many characters, as JSON text.
            types: Only updates of these types.
            keep_types: Updates of these types in any case, however old; they are paid for first. What the rest is, and
                how groups stay together, is said at `Store.load`.

        Raises:
            InvalidArgumentError: A value is not what it must be, or two contradict each other.
            UnsavedChangesError: An earlier state is asked for, and there are unsaved changes here.
            ContextNotFoundError: An earlier state is asked for, and the store does not have the context.
            RevisionNotFoundError: It has no such state, or what was removed since was pruned.
            UnsupportedByStoreError: An earlier state is asked for, and the store keeps none.
            UnreadableFileError: The history file is not one; it was set aside, and nothing changed here.
            StoreError: The store failed.
        """
        if self._load_error is not None:
            error, self._load_error = self._load_error, None
            raise error
        selection = Selection(self._history_limit, revision, at, max_chars, types, keep_types)
        async with self._used_store() as store:
            if store is not None:
                async with self._in_turn():
                    if selection.is_past:
                        self._refuse_unsaved("show an earlier state")
                    await self._load(store, selection)
            elif selection.is_past:
                raise UnsupportedByStoreError(
                    "show earlier states", "a context without a store", Feature.REVISIONS.value
                )

    async def save(self, *, if_unchanged: bool = False) -> int:
        """Write what is unsaved, and return the revision that it made.

        With nothing unsaved, nothing is written. After an error all is still unsaved, and the next save writes it.

        Args:
            if_unchanged: Refuse if another writer saved since this context was loaded.

        Raises:
            StaleContextError: ``if_unchanged`` was asked for, and another writer had saved.
            LostContextError: Somebody deleted the context from the store.
            PastContextError: The context shows an earlier revision, and was changed.
            UnstorableValueError: In strict mode, a value would come back as something else.
            StoreError: The store failed.
        """
        store = self._opened or self._store
        if store is not None:
            async with self._in_turn():
                await self._save(store, if_unchanged)
        elif self._url is not None:
            async with open_store(self._url) as store, self._in_turn():
                await self._save(store, if_unchanged)
        return self.revision

    async def _save_context_history(self) -> None:
        """Save, under the reference's name."""
        await self.save()

    async def truncate_context_history(self, timestamp: float) -> None:
        """Remove the updates made after ``timestamp`` (seconds since the epoch, UTC), and save if there were any."""
        kept = updates_until(self._history, timestamp)
        if len(kept) < len(self._history):
            staying = set(map(id, kept))
            self._drop((update for update in self._history if id(update) not in staying), kept, "truncate")
            await self.save()

    async def earlier_updates(self) -> AsyncIterator[ContextUpdate]:
        """Return the stored updates that `load` left out of memory, the newest first, page by page.

        Raises:
            PastContextError: The context shows an earlier revision.
        """
        if self.history_complete:
            return
        if self.is_past:
            raise PastContextError(self.key, self.revision, "read more")
        here = set() if self._loaded_from is not None else set(self._history.seqs)
        async with self._used_store() as store:
            if store is not None:
                async for row in store.updates(self.key, before=self._loaded_from, newest_first=True):
                    if row.seq not in here:
                        yield row.update

    # Earlier states.

    async def revisions(self, *, before: int | None = None, limit: int = 100) -> Sequence[Revision]:
        """Return the context's revisions, the newest first: when, by which run, what came and went.

        Args:
            before: Only those with a lower number: the last one of the page before.
            limit: How many at the most.

        Raises:
            ContextNotFoundError: The store does not have the context.
            UnsupportedByStoreError: The store keeps none.
        """
        async with self._revisions_of() as store:
            return await store.revisions(self.key, before=before, limit=limit)

    async def restore(self, revision: int) -> int:
        """Make an earlier state current, as a new revision, and return its number.

        History, both trackers, metadata and toggles become what they were. Nothing is erased: all that was saved since
        stays in the record, and `undo` takes the restore back.

        Raises:
            UnsavedChangesError: There are unsaved changes here.
            ContextNotFoundError: The store does not have the context.
            RevisionNotFoundError: It has no such revision, or what was removed since was pruned.
            UnsupportedByStoreError: The store keeps no revisions.
        """
        Selection(revision=revision)
        return await self._operate("restore", revision)

    async def undo(self) -> int:
        """Take back the last optimize, truncate or restore that is not taken back yet, and return the new revision.

        What it took out comes back in its old place, and what was added since stays.

        Raises:
            NothingToUndoError: There is none.
            UnsavedChangesError: There are unsaved changes here.
            ContextNotFoundError: The store does not have the context.
            UnsupportedByStoreError: The store keeps no revisions.
        """
        return await self._operate("undo", None)

    async def fork(self, new_chat_id: str, revision: int | None = None) -> TaskContext:
        """Make a new context that starts from this one, in the same store, and return it, loaded.

        The rows are copied within the database. What was paid for models stays with this one in the reports.

        Args:
            new_chat_id: Its chat; the user is the same.
            revision: Which state; the one that is shown if not given.

        Raises:
            ContextExistsError: There is a context of that chat already.
            UnsavedChangesError: There are unsaved changes here.
            ContextNotFoundError: The store does not have the context.
            RevisionNotFoundError: It has no such revision, or what was removed since was pruned.
            UnsupportedByStoreError: The store keeps no revisions.
        """
        async with self._revisions_of() as store, self._in_turn():
            self._refuse_unsaved("be forked")
            shown = self.revision if self.is_past else None
            key = await store.fork(self.key, new_chat_id, revision=shown if revision is None else revision)
        data = {"user_id": key.user_id, "chat_id": key.chat_id}
        forked = TaskContext(
            data,
            self.task_dir,
            store=self._store,
            database_url=self._url,
            history_limit=self._history_limit,
            clock=self._clock,
        )
        await forked.load()
        return forked

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
            self._run = _new_run(self.start_time)

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

    @asynccontextmanager
    async def _used_store(self) -> AsyncIterator[Store | None]:
        """Yield the store that is open, or one opened for this once, or None where nothing is kept."""
        if self._store is not None or self._opened is not None:
            yield self._store or self._opened
        elif self._url is not None:
            async with open_store(self._url) as store:
                yield store
        else:
            yield None

    def _in_turn(self) -> asyncio.Lock:
        """Return what lets one save or load of a context go on at a time."""
        loop = asyncio.get_running_loop()
        if self._turn is None or self._turn_loop is not loop:
            self._turn, self._turn_loop = asyncio.Lock(), loop
        return self._turn

    @asynccontextmanager
    async def _revisions_of(self) -> AsyncIterator[Store]:
        """Yield the store, for what is about the states that it keeps."""
        async with self._used_store() as store:
            if store is None:
                raise UnsupportedByStoreError(
                    "show earlier states", "a context without a store", Feature.REVISIONS.value
                )
            yield store

    def _refuse_unsaved(self, doing: str) -> None:
        """See that nothing is unsaved, which would be mixed up with another state."""
        has_content = self._next_delta().has_content
        self._abandon()
        if has_content or self._in_doubt is not None:
            raise UnsavedChangesError(self.key, doing)

    async def _operate(self, operation: Operation, revision: int | None) -> int:
        async with self._revisions_of() as store, self._in_turn():
            self._refuse_unsaved(operation)
            if self.is_new:
                await self._load(store)
            if self.is_new:
                raise ContextNotFoundError(self.key)
            delta = replace(self._next_delta(), operation=operation, source_revision=revision)
            await self._send(store, delta)
            await self._load(store)
        return self.revision

    async def _load(self, store: Store, selection: Selection | None = None) -> None:
        selection = selection or Selection(self._history_limit)
        with contextlib.suppress(StaleContextError, LostContextError):
            # Both say that it was not written: what it held is unsaved again, and loading is the remedy.
            await self._settle_doubt(store)
        loaded = await store.load(
            self.key,
            history_limit=selection.history_limit,
            revision=selection.revision,
            at=selection.at,
            max_chars=selection.max_chars,
            types=selection.types,
            keep_types=selection.keep_types,
        )
        self._adopt(loaded, is_past=selection.is_past, contiguous=not selection.chooses)
        self._must_load = False

    async def _save(self, store: Store, if_unchanged: bool) -> None:
        await self._settle_doubt(store)
        if self._must_load:
            await self._load(store)
        delta = self._next_delta(if_unchanged=if_unchanged)
        if self.is_past and delta.has_content:
            self._abandon()
            raise PastContextError(self.key, self.revision, "be saved")
        if delta.has_content or delta.run.ended_at is not None or self.is_new:
            await self._send(store, delta)
        else:
            self._abandon()

    def _next_delta(self, *, if_unchanged: bool = False) -> Delta:
        """Hand out what is unsaved, as this run's next save."""
        if self._run is None:
            self._run = _new_run(datetime.now(UTC).timestamp())
        # Not the context's clock: the original asks it for updates only, and a clock of your own may count.
        return self._take_delta(self._run.next_save(), datetime.now(UTC).timestamp(), if_unchanged=if_unchanged)

    async def _settle_doubt(self, store: Store) -> None:
        """A save whose outcome nobody knows is sent again as it was: it is written now, or was written then."""
        if self._in_doubt is not None:
            await self._send(store, self._in_doubt)

    async def _send(self, store: Store, delta: Delta) -> None:
        try:
            saved = await store.save(delta)
        except BaseException as error:
            self._give_up(delta, error)
            raise
        self._in_doubt = None
        self._confirm(saved)
        self._must_load = self._must_load or delta.operation in ("restore", "undo")
        # A save in doubt may be settled when the next run has begun.
        if self._run is not None and self._run.run_id == delta.run.run_id:
            self._run = None if delta.run.ended_at is not None else self._run.after(delta.run)

    def _give_up(self, delta: Delta, error: BaseException) -> None:
        refused = isinstance(error, StaleContextError | LostContextError | UnstorableValueError | LimitExceededError)
        failed = isinstance(error, TaskContextError) and not (isinstance(error, StoreError) and error.outcome_unknown)
        if refused or (failed and self._in_doubt is not delta):
            self._in_doubt = None
            self._abandon()
        else:
            self._in_doubt = delta

    def _read_json(self, store: JsonStore) -> None:
        self._was_read = True
        try:
            self._adopt(store.load_now(self.key, Selection(self._history_limit)))
        except TaskContextError as error:
            # The original's constructor raises nothing; load() will.
            self._load_error = error
            logger.error("the context starts with an empty history: %s", error)


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


def _new_run(started_at: float) -> Run:
    return Run(run_id=str(uuid.uuid4()), saves=0, started_at=started_at)


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
