"""A context with a store: loading, saving, and earlier states."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Self

from taskctx_sql.context import MemoryContext, updates_until
from taskctx_sql.errors import PastContextError, TaskContextError, UnsupportedByStoreError
from taskctx_sql.limits import check_number
from taskctx_sql.model import ContextUpdate, Operation, Revision, Selection
from taskctx_sql.stores import Feature
from taskctx_sql.task.persistence import Persistence
from taskctx_sql.task.place import Place

# What a context without a store cannot do, for errors.
_SHOW_STATES = ("show earlier states", Feature.REVISIONS.value)


class StoredContext(MemoryContext):
    """What a task did, in memory and in a store; `TaskContext` adds where it is kept, entering and leaving."""

    def _bind(self, place: Place, history_limit: int | None) -> None:
        """Begin with nothing loaded, and nothing on its way, at a place."""
        self._place = place
        self._persistence = Persistence(self._unsaved, history_limit)
        # How often it is entered and not left.
        self._depth = 0
        # The constructor read the file already; what it could only log, load() raises.
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
