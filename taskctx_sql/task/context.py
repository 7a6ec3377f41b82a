"""TaskContext: put together from what is in memory, what of it is unsaved, and the place where it is kept."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from taskctx_sql import settings
from taskctx_sql.concurrency import blocking, shielded
from taskctx_sql.context import Clock, MemoryContext, plain_entry, updates_until
from taskctx_sql.errors import PastContextError, TaskContextError, UnreadableFileError, UnsupportedByStoreError
from taskctx_sql.errors.base import add_note
from taskctx_sql.json_files import JsonStore
from taskctx_sql.limits import check_number
from taskctx_sql.model import ContextUpdate, Operation, Revision, RunOutcome, Selection
from taskctx_sql.stores import ContextStore, Feature
from taskctx_sql.task.persistence import Persistence
from taskctx_sql.task.place import Place

logger = logging.getLogger(__name__)

# What an error says that a context without a store cannot do.
_SHOW_STATES = ("show earlier states", Feature.REVISIONS.value)

# What a copy of a context makes for itself.
_OWN: Final = frozenset(
    {"_clock", "_depth", "_load_error", "_memory", "_persistence", "_place", "_resources", "_unsaved", "_was_read"}
)


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
        task_dir: str | Path | None = None,
        *,
        store: ContextStore | None = None,
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
            InvalidDatabaseUrlError: ``task_dir`` can be no folder.
            InvalidSettingError: A variable that was needed has a value that is not allowed.
        """
        super().__init__(data, task_dir, clock=clock)
        check_number("history_limit", history_limit, 0, optional=True)
        url = None if store is not None else database_url
        files: JsonStore | None = None
        if store is None and url is None and settings.enable_persistence():
            url = settings.database_url()
            files = JsonStore(self.task_dir) if url is None else None
        self._bind(Place(files if store is None else store, url), history_limit)
        if files is not None:
            self._read_json(files)

    def _bind(self, place: Place, history_limit: int | None) -> None:
        """Begin with nothing loaded, and nothing on its way, at a place."""
        self._place = place
        self._persistence = Persistence(self._unsaved, history_limit)
        # How often it is entered and not left.
        self._depth = 0
        # The constructor read the file already; what it could only log, load() raises.
        self._was_read = False
        self._load_error: TaskContextError | None = None

    def _read_json(self, store: JsonStore) -> None:
        self._was_read = True
        try:
            self._unsaved.adopt(store.load_now(self.key, Selection(self._persistence.history_limit)))
        except TaskContextError as error:
            # The original's constructor raises nothing; load() will.
            self._load_error = error
            logger.error("the context starts with an empty history: %s", error)

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles are contexts of their own, without a store: two that believe to have saved the same rows
        # would contradict each other. The contents come when the copy is there, since they may contain the context.
        return (_blank, (type(self),), self.__getstate__())

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy of the context takes: all but the store, the resources and the clock."""
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
            # Of the program's own, and of a class that is made of this one, too.
            "attributes": {name: value for name, value in vars(self).items() if name not in _OWN},
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what `__getstate__` of another one returned."""
        given = ("user_id", "chat_id", "metadata", "metadata_toggles")
        MemoryContext.__init__(self, {name: state[name] for name in given}, state["attributes"]["task_dir"])
        self._bind(Place(), state["history_limit"])
        for name in ("context_history", "file_tracker", "model_tracker"):
            setattr(self, name, state[name])
        vars(self).update(state["attributes"])

    def __repr__(self) -> str:
        doubt = ", a save in doubt" if self._in_doubt else ""
        return f"<{type(self).__name__} of {self.user_id!r}, {self.chat_id!r} at revision {self.revision}{doubt}>"

    @property
    def _in_doubt(self) -> bool | None:
        return True if self._persistence.in_doubt is not None else None

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
                how groups stay together, is said at `ContextStore.load`.

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
        selection = Selection(self._persistence.history_limit, revision, at, max_chars, types, keep_types)
        async with self._place.used() as store:
            if store is not None:
                async with self._place.in_turn():
                    await self._persistence.load(store, selection)
            elif selection.is_past:
                doing, feature = _SHOW_STATES
                raise UnsupportedByStoreError(doing, "a context without a store", feature)

    async def save(self, *, if_unchanged: bool = False) -> int:
        """Write what is unsaved, and return the revision that it made.

        With nothing unsaved, nothing is written. After an error all is still unsaved, and the next save writes it.

        Args:
            if_unchanged: Refuse if another writer saved since this context was loaded.

        Raises:
            StaleContextError: ``if_unchanged`` was asked for, and another writer had saved; or others wrote anew what
                is changed here, again and again.
            LostContextError: Somebody deleted the context from the store.
            PastContextError: The context shows an earlier revision, and was changed.
            UnstorableValueError: In strict mode, a value would come back as something else.
            StoreError: The store failed.
        """
        async with self._place.used() as store:
            if store is not None:
                async with self._place.in_turn():
                    await self._persistence.save(store, if_unchanged=if_unchanged)
        return self.revision

    async def _save_context_history(self) -> None:
        """Save, under the reference's name."""
        await self.save()

    async def discard(self) -> None:
        """Give up what is unsaved: memory becomes what the store holds.

        Of a save in doubt the store is asked first: if it was written, it stays. Where the store does not have the
        context, metadata and toggles become what it was made with; where it does not keep them, they stay.

        Raises:
            UnsupportedByStoreError: The context has no store.
            StoreError: The store failed; all is as it was.
        """
        async with self._place.required("discard changes", "what was saved") as store, self._place.in_turn():
            await self._persistence.discard(store)

    async def truncate_context_history(self, timestamp: float) -> None:
        """Remove the updates made after ``timestamp`` (seconds since the epoch, UTC), and save if there were any.

        What `optimize_context` removed before is saved first, so that each is a revision of its own.
        """
        if self._memory.dropped and len(updates_until(self._memory.own_history(), timestamp)) < len(
            self._memory.history
        ):
            await self.save()
        kept = updates_until(self._memory.own_history(), timestamp)
        if len(kept) < len(self._memory.history):
            staying = set(map(id, kept))
            self._memory.drop(
                (update for update in self._memory.history if id(update) not in staying), kept, "truncate"
            )
            await self.save()

    async def earlier_updates(self) -> AsyncIterator[ContextUpdate]:
        """Return the stored updates that `load` left out of memory, the newest first, page by page.

        Raises:
            PastContextError: The context shows an earlier revision.
            ContextNotFoundError: The context was deleted when some of them had come.
        """
        if self.history_complete:
            return
        if self.is_past:
            raise PastContextError(self.key, self.revision, "read more")
        here = set() if self._unsaved.loaded_from is not None else set(self._memory.history.seqs)
        async with self._place.used() as store:
            if store is not None:
                async for row in store.updates(self.key, before=self._unsaved.loaded_from, newest_first=True):
                    if row.seq not in here:
                        yield row.update

    # Earlier states.

    async def revisions(self, *, before: int | None = None, limit: int = 100) -> Sequence[Revision]:
        """Return the context's revisions, the newest first: when, by which run, what came and went.

        Args:
            before: Only those with a lower number: the last one of the page before.
            limit: How many at the most.

        Raises:
            InvalidArgumentError: A value is not what it must be.
            ContextNotFoundError: The store does not have the context.
            UnsupportedByStoreError: The store keeps none.
        """
        async with self._place.with_revisions() as store:
            return await store.revisions(self.key, before=before, limit=limit)

    async def restore(self, revision: int) -> int:
        """Make an earlier state current, as a new revision, and return its number.

        History, both trackers, metadata and toggles become what they were. Nothing is erased: all that was saved since
        stays in the record, and `undo` takes the restore back.

        Raises:
            InvalidArgumentError: That is no number of a revision.
            UnsavedChangesError: There are unsaved changes here.
            ContextNotFoundError: The store does not have the context.
            RevisionNotFoundError: It has no such revision, or what was removed since was pruned.
            UnsupportedByStoreError: The store keeps no revisions.
        """
        check_number("revision", revision, 1)
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

    async def fork(self, chat_id: str, *, revision: int | None = None) -> Self:
        """Make a new context that starts from this one, in the same store, and return it, loaded.

        The rows are copied within the database. What was paid for models stays with this one in the reports.

        Args:
            chat_id: The chat of the new context; the user is the same.
            revision: Which state; the one that is shown if not given.

        Raises:
            InvalidArgumentError: That is no number of a revision.
            ContextExistsError: There is a context of that chat already.
            UnsavedChangesError: There are unsaved changes here.
            ContextNotFoundError: The store does not have the context.
            RevisionNotFoundError: It has no such revision, or what was removed since was pruned.
            UnsupportedByStoreError: The store keeps no revisions.
        """
        async with self._place.with_revisions() as store, self._place.in_turn():
            await self._persistence.fork(store, chat_id, revision)
        forked = type(self)({"user_id": self.user_id, "chat_id": chat_id}, self.task_dir, clock=self._clock)
        forked._bind(self._place.another(), self._persistence.history_limit)
        await forked.load()
        return forked

    async def _operate(self, operation: Operation, revision: int | None) -> int:
        async with self._place.with_revisions() as store, self._place.in_turn():
            await self._persistence.operate(store, operation, revision)
        return self.revision

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
            # To its end, however often it is cancelled: saving may take several steps, and closing another one.
            await shielded(self._leave(ended_at, error))

    def _begin(self) -> None:
        self.start_time = self._now()
        if self._depth == 0:
            self._persistence.begin_run(self.start_time)

    async def _open_and_load(self) -> None:
        self._depth += 1
        if self._depth > 1:
            return
        try:
            await self._place.enter()
            if self._was_read:
                self._was_read = False
            else:
                # It is logged, and set aside whole: the task goes on with an empty history, as with the original.
                with contextlib.suppress(UnreadableFileError):
                    await self.load()
        except BaseException:
            self._depth -= 1
            await self._place.leave()
            raise

    async def _leave(self, ended_at: float, error: BaseException | None) -> None:
        self._depth -= 1
        try:
            if self._depth == 0:
                self._persistence.end_run(ended_at, *_outcome(error))
            await self.save()
        except Exception as failure:
            if getattr(failure, "denied", False) and not self.has_unsaved_changes:
                # Where only reading is possible, one who only read has nothing to lose.
                logger.warning("the end of the run could not be recorded: %s", failure)
                return
            if error is None:
                raise
            # The body's own error is what the caller must see.
            add_note(error, failure, "saving the context")
            logger.error("the context could not be saved after an error: %s", failure)
        finally:
            if self._depth == 0:
                await self._place.leave()


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
    """Return the dictionary of a new context, without touching any store."""
    return MemoryContext(data).to_dict()


def _outcome(error: BaseException | None) -> tuple[RunOutcome, str | None]:
    if error is None:
        return "completed", None
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:
        text = type(error).__name__
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "failed", text


def _blank(kind: type[TaskContext]) -> TaskContext:
    """Make a context that `TaskContext.__setstate__` fills."""
    return kind.__new__(kind)
