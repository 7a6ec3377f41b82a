"""A context with a store: loading, saving, and earlier states."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Self

from taskctx_sql.context import MemoryContext, updates_until
from taskctx_sql.errors import PastContextError, TaskContextError
from taskctx_sql.limits import check_number
from taskctx_sql.model import ContextUpdate, Operation, Revision, Selection
from taskctx_sql.stores import ContextStore
from taskctx_sql.task.persistence import Persistence
from taskctx_sql.task.storage import SHOW_STATES, Storage


class StoredContext(MemoryContext):
    """What a task did, in memory and in a store; `TaskContext` adds where it is kept, entering and leaving."""

    def _bind(self, storage: Storage, history_limit: int | None) -> None:
        self._storage = storage
        self._persistence = Persistence(self._unsaved, history_limit)
        # How often it was entered and not left yet.
        self._depth = 0
        # The constructor reads a file already; load() raises the error that it could only log.
        self._was_read = False
        self._load_error: TaskContextError | None = None

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
        """Load what the store has, and keep unsaved changes on top of it.

        An earlier state cannot be saved: continue from it by `restore` or `fork`, or return to the present by another
        `load`.

        Args:
            revision: Load the state of this revision.
            at: Load the state at this time, seconds since the epoch, UTC.
            max_chars: Load only the newest updates whose data fits into so many characters of JSON text.
            types: Load only updates of these types.
            keep_types: Load updates of these types, however old, before others; see `ContextStore.load`.

        Raises:
            InvalidArgumentError: An argument is invalid, or two contradict each other.
            UnsavedChangesError: An earlier state was requested, and there are unsaved changes.
            ContextNotFoundError: An earlier state was requested, and the store does not have the context.
            RevisionNotFoundError: The store has no such state, or what was removed since was pruned.
            UnsupportedByStoreError: An earlier state was requested, and the store keeps none.
            UnreadableFileError: The history file is damaged; it was set aside, and the context is unchanged.
            StoreError: The store failed.
        """
        if self._load_error is not None:
            error, self._load_error = self._load_error, None
            raise error
        selection = Selection(self._persistence.history_limit, revision, at, max_chars, types, keep_types)
        storage = self._storage
        async with storage.required(*SHOW_STATES) if selection.is_past else storage.used() as store:
            if store is not None:
                async with storage.in_turn():
                    await self._persistence.load(store, selection)

    async def save(self, *, if_unchanged: bool = False) -> int:
        """Write what is unsaved, and return the new revision.

        If nothing is unsaved, nothing is written. After an error everything is still unsaved, and the next save writes
        it.

        Args:
            if_unchanged: Refuse if another writer saved since this context was loaded.

        Raises:
            StaleContextError: Another writer saved, with ``if_unchanged``; or other writers repeatedly rewrote rows
                that are changed here.
            LostContextError: The context was deleted from the store.
            PastContextError: The context shows an earlier revision, and was changed.
            UnstorableValueError: In strict mode, a value would be read back as another one.
            StoreError: The store failed.
        """
        if (store := self._storage.ready) is not None:
            await self._save_to(store, if_unchanged=if_unchanged)
        else:
            async with self._storage.used() as opened:
                if opened is not None:
                    await self._save_to(opened, if_unchanged=if_unchanged)
        return self._unsaved.revision

    async def _save_to(self, store: ContextStore, *, if_unchanged: bool) -> None:
        async with self._storage.in_turn():
            await self._persistence.save(store, if_unchanged=if_unchanged)

    async def _save_context_history(self) -> None:
        """Save, under the reference's name."""
        await self.save()

    async def discard(self) -> None:
        """Discard what is unsaved: memory becomes what the store has.

        A save in doubt stays if it was written. If the store does not have the context, metadata and toggles become
        what the context was created with; if the store does not keep them, they stay.

        Raises:
            UnsupportedByStoreError: The context has no store.
            StoreError: The store failed; nothing changed.
        """
        async with self._storage.required("discard changes", "what was saved") as store, self._storage.in_turn():
            await self._persistence.discard(store)

    async def truncate_context_history(self, timestamp: float) -> None:
        """Remove the updates made after ``timestamp`` (seconds since the epoch, UTC), and save if there were any.

        Unsaved removals by `optimize_context` are saved first, so that each of the two is a revision.
        """
        kept = updates_until(self._memory.own_history(), timestamp)
        if len(kept) == len(self._memory.history):
            return
        if self._memory.dropped:
            await self.save()
            kept = updates_until(self._memory.own_history(), timestamp)
        self._memory.keep(kept, "truncate")
        await self.save()

    async def earlier_updates(self) -> AsyncIterator[ContextUpdate]:
        """Yield the stored updates that `load` left out, newest first. They are read page by page.

        Raises:
            PastContextError: The context shows an earlier revision.
            ContextNotFoundError: The context was deleted meanwhile.
        """
        if self.history_complete:
            return
        if self.is_past:
            raise PastContextError(self.key, self.revision, "read more")
        here = set() if self._unsaved.loaded_from is not None else set(self._memory.history.seqs)
        async with self._storage.used() as store:
            if store is not None:
                async for row in store.updates(self.key, before=self._unsaved.loaded_from, newest_first=True):
                    if row.seq not in here:
                        yield row.update

    # Earlier states.

    async def revisions(self, *, before: int | None = None, limit: int = 100) -> Sequence[Revision]:
        """Return the context's revisions, newest first: their times, runs, and numbers of updates.

        Args:
            before: Only revisions below this number, such as the last one of the previous page.
            limit: The largest number of revisions.

        Raises:
            InvalidArgumentError: An argument is invalid.
            ContextNotFoundError: The store does not have the context.
            UnsupportedByStoreError: The store keeps no revisions.
        """
        async with self._storage.with_revisions() as store:
            return await store.revisions(self.key, before=before, limit=limit)

    async def restore(self, revision: int) -> int:
        """Make an earlier state current, as a new revision, and return its number.

        History, both trackers, metadata and toggles become what they were. Nothing is erased: the record keeps
        everything that was saved since, and `undo` reverts the restore.

        Raises:
            InvalidArgumentError: It is not the number of a revision.
            UnsavedChangesError: There are unsaved changes.
            ContextNotFoundError: The store does not have the context.
            RevisionNotFoundError: There is no such revision, or what was removed since was pruned.
            UnsupportedByStoreError: The store keeps no revisions.
        """
        check_number("revision", revision, 1)
        return await self._operate("restore", revision)

    async def undo(self) -> int:
        """Revert the last optimize, truncate or restore that is not reverted yet, and return the new revision.

        What it removed returns to its old position, and what was added since stays.

        Raises:
            NothingToUndoError: There is no such operation.
            UnsavedChangesError: There are unsaved changes.
            ContextNotFoundError: The store does not have the context.
            UnsupportedByStoreError: The store keeps no revisions.
        """
        return await self._operate("undo", None)

    async def fork(self, chat_id: str, *, revision: int | None = None) -> Self:
        """Create a context that starts from this one, in the same store, and return it, loaded.

        The rows are copied within the database. In the reports, model costs stay with this context.

        Args:
            chat_id: The chat of the new context; the user is the same.
            revision: Which state; the one that is shown if not given.

        Raises:
            InvalidArgumentError: It is not the number of a revision.
            ContextExistsError: The chat has a context already.
            UnsavedChangesError: There are unsaved changes.
            ContextNotFoundError: The store does not have the context.
            RevisionNotFoundError: There is no such revision, or what was removed since was pruned.
            UnsupportedByStoreError: The store keeps no revisions.
        """
        async with self._storage.with_revisions() as store, self._storage.in_turn():
            await self._persistence.fork(store, chat_id, revision)
        forked = type(self)({"user_id": self.user_id, "chat_id": chat_id}, self.task_dir, clock=self._clock)
        forked._bind(self._storage.another(), self._persistence.history_limit)
        await forked.load()
        return forked

    async def _operate(self, operation: Operation, revision: int | None) -> int:
        async with self._storage.with_revisions() as store, self._storage.in_turn():
            await self._persistence.operate(store, operation, revision)
        return self.revision
