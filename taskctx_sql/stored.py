"""A context that is bound to a place where it is kept: what loading and saving are, and what comes after a failure."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from taskctx_sql import codec, settings
from taskctx_sql.context import Clock, MemoryContext
from taskctx_sql.errors import (
    InvalidContextError,
    LimitExceededError,
    LostContextError,
    NothingToUndoError,
    PastContextError,
    RevisionNotFoundError,
    SaveRefusedError,
    StaleContextError,
    TaskContextError,
    UnsavedChangesError,
    UnstorableValueError,
    UnsupportedByStoreError,
)
from taskctx_sql.json_store import JsonStore
from taskctx_sql.opening import open_store
from taskctx_sql.optimize import updates_until
from taskctx_sql.records import ContextUpdate, Delta, MappingChange, Run
from taskctx_sql.selection import Selection
from taskctx_sql.settings import DEFAULT_TASK_DIR
from taskctx_sql.store import Feature, Store
from taskctx_sql.tracking import plain
from taskctx_sql.unsaved import Handout

logger = logging.getLogger(__name__)


class StoredContext(MemoryContext):
    """A context in memory, and a store that it is loaded from and saved to."""

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
        url = None if store is not None else database_url
        files: JsonStore | None = None
        if store is None and url is None and settings.enable_persistence():
            url = settings.database_url()
            files = JsonStore(self.task_dir) if url is None else None
        self._bind(files if store is None else store, url, history_limit)
        if files is not None:
            self._read_json(files)

    def _bind(self, store: Store | None, url: str | None, history_limit: int | None) -> None:
        """Begin with nothing loaded, and nothing on its way, at a place."""
        self._history_limit = history_limit
        self._store = store
        self._url = url
        self._opened: Store | None = None
        self._depth = 0
        self._run: Run | None = None
        # The constructor read the file already; what it could only log, load() raises.
        self._was_read = False
        self._load_error: TaskContextError | None = None
        self._turn: asyncio.Lock | None = None
        self._turn_loop: asyncio.AbstractEventLoop | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies and pickles are contexts of their own, without a store: two that believe to have saved the same rows
        # would contradict each other.
        data = {
            "user_id": self.user_id,
            "chat_id": self.chat_id,
            "metadata": self.metadata,
            "metadata_toggles": self.metadata_toggles,
        }
        files = {path: plain(entry) for path, entry in self._files.items()}
        contents = (self._own_history(), files, [plain(entry) for entry in self._models])
        return (_copied, (type(self), data, self.task_dir, self._history_limit, self.start_time, contents))

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
                        await self._refuse_unsaved(store, "show an earlier state")
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

    async def discard(self) -> None:
        """Give up what is unsaved: memory becomes what the store holds.

        Of a save in doubt the store is asked first: if it was written, it stays. Metadata and toggles that a context
        was made with stay where the store does not have the context, or does not keep them.

        Raises:
            UnsupportedByStoreError: The context has no store.
            StoreError: The store failed; all is as it was.
        """
        async with self._used_store() as store:
            if store is None:
                raise UnsupportedByStoreError("discard changes", "a context without a store", "what was saved")
            async with self._in_turn():
                await self._give_up_doubt(store)
                await self._read(store, Selection(self._history_limit), discard=True)

    async def _give_up_doubt(self, store: Store) -> None:
        """See that a save in doubt was written, or never will be."""
        handout = self._in_doubt
        if handout is None:
            return
        delta = handout.delta
        if delta.base is None:
            # Nothing is to be made where nothing was: what follows is another run's, with saves of its own.
            self._run = None if self._run is None else replace(self._run, run_id=str(uuid.uuid4()), saves=0)
        else:
            # A save of the same identity that changes nothing, and yet makes a revision: whichever of the two comes
            # second, even much later, writes nothing.
            same = MappingChange(codec.decode(self._metadata_text), {}, ())
            with contextlib.suppress(StaleContextError, LostContextError):
                await store.save(Delta(delta.key, delta.run, delta.base, delta.at, metadata=same))
            self._count(delta.run)
        self._abandon(handout)

    async def truncate_context_history(self, timestamp: float) -> None:
        """Remove the updates made after ``timestamp`` (seconds since the epoch, UTC), and save if there were any.

        What `optimize_context` removed before is saved first, so that each is a revision of its own.
        """
        if self._dropped and len(updates_until(self._own_history(), timestamp)) < len(self._history):
            await self.save()
        kept = updates_until(self._own_history(), timestamp)
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

    # How.

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

    @property
    def _in_doubt(self) -> Handout | None:
        return self._saving.in_doubt

    async def _refuse_unsaved(self, store: Store, doing: str) -> None:
        """See that nothing is unsaved, which would be mixed up with another state.

        What is in doubt counts as unsaved, unless it only told of the end of a run.
        """
        if self._in_doubt is not None:
            if self._in_doubt.delta.has_content:
                raise UnsavedChangesError(self.key, doing)
            await self._settle_doubt(store)
        handout = self._next_handout()
        self._abandon(handout)
        if handout.delta.has_content:
            raise UnsavedChangesError(self.key, doing)

    async def _load(self, store: Store, selection: Selection | None = None) -> None:
        with contextlib.suppress(StaleContextError, LostContextError):
            # Both say that it was not written: what it held is unsaved again, and loading is the remedy.
            await self._settle_doubt(store)
        await self._read(store, selection or Selection(self._history_limit))

    async def _read(self, store: Store, selection: Selection, *, discard: bool = False) -> None:
        loaded = await store.load(
            self.key,
            history_limit=selection.history_limit,
            revision=selection.revision,
            at=selection.at,
            max_chars=selection.max_chars,
            types=selection.types,
            keep_types=selection.keep_types,
        )
        if discard:
            # What the program gave at the beginning stays where the store has nothing.
            self._forget_changes(mappings=loaded.revision > 0 and loaded.metadata is not None)
        self._adopt(loaded, is_past=selection.is_past, contiguous=not selection.chooses)

    async def _save(self, store: Store, if_unchanged: bool) -> None:
        await self._settle_doubt(store)
        if self._saving.must_reload:
            await self._load(store)
        handout = self._next_handout(if_unchanged=if_unchanged)
        delta = handout.delta
        if self.is_past and delta.has_content:
            self._abandon(handout)
            raise PastContextError(self.key, self.revision, "be saved")
        if delta.has_content or delta.run.ended_at is not None or self.is_new:
            await self._send(store, handout)
        else:
            self._abandon(handout)

    def _next_handout(self, *, if_unchanged: bool = False) -> Handout:
        """Hand out what is unsaved, as this run's next save."""
        # Not the context's clock: the original asks it for updates only, and a clock of your own may count.
        return self._hand_out(self._next_save(), datetime.now(UTC).timestamp(), if_unchanged=if_unchanged)

    def _next_save(self) -> Run:
        if self._run is None:
            self._run = new_run(datetime.now(UTC).timestamp())
        return self._run.next_save()

    async def _settle_doubt(self, store: Store) -> None:
        """A save whose outcome nobody knows is sent again as it was: it is written now, or was written then."""
        handout = self._in_doubt
        if handout is not None:
            self._saving.send_again(handout)
            await self._send(store, handout, again=True)

    async def _send(self, store: Store, handout: Handout, *, again: bool = False) -> None:
        try:
            saved = await store.save(handout.delta)
        except BaseException as error:
            if _was_not_written(error, again=again):
                self._abandon(handout)
            else:
                self._saving.doubt(handout)
            raise
        self._confirm(handout, saved)
        self._count(handout.delta.run)

    def _count(self, saved: Run) -> None:
        # A save in doubt may be settled when the next run has begun.
        if self._run is not None and self._run.run_id == saved.run_id:
            self._run = None if saved.ended_at is not None else self._run.after(saved)

    def _read_json(self, store: JsonStore) -> None:
        self._was_read = True
        try:
            self._adopt(store.load_now(self.key, Selection(self._history_limit)))
        except TaskContextError as error:
            # The original's constructor raises nothing; load() will.
            self._load_error = error
            logger.error("the context starts with an empty history: %s", error)


def new_run(started_at: float) -> Run:
    """Return a run that begins."""
    return Run(run_id=str(uuid.uuid4()), saves=0, started_at=started_at)


def _copied(
    kind: type[StoredContext],
    data: dict[str, Any],
    task_dir: Path,
    history_limit: int | None,
    start_time: float | None,
    contents: tuple[list[ContextUpdate], dict[Any, Any], list[Any]],
) -> StoredContext:
    """Make a copy of a context, without a store and without its resources."""
    context = kind.__new__(kind)
    MemoryContext.__init__(context, data, task_dir)
    context._bind(None, None, history_limit)
    context.start_time = start_time
    context.context_history, context.file_tracker, context.model_tracker = contents
    return context


def _was_not_written(error: BaseException, *, again: bool) -> bool:
    """Whether an error says that nothing of a save is in the store.

    These say so of every copy of the save, since the store looks for one before it refuses. The others speak of the
    last attempt alone, which tells nothing of a save that is sent ``again``.
    """
    refusals = (
        *(StaleContextError, LostContextError, UnstorableValueError, LimitExceededError, SaveRefusedError),
        *(NothingToUndoError, RevisionNotFoundError),
    )
    if isinstance(error, refusals):
        return True
    return not again and isinstance(error, TaskContextError) and not getattr(error, "outcome_unknown", False)
