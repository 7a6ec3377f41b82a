"""A context's earlier states: to list them, to go back to them, and to go on from them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Self

from taskctx_sql.errors import ContextNotFoundError, UnsupportedByStoreError
from taskctx_sql.limits import check_number
from taskctx_sql.records import Operation
from taskctx_sql.revisions import Revision
from taskctx_sql.store import Feature, Store
from taskctx_sql.stored import StoredContext


class TravelingContext(StoredContext):
    """A context that knows its way among its states; `load` shows one of them."""

    # The last restore or undo that was sent.
    _operation: tuple[Operation, int | None] | None = None

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
        async with self._revisions_of() as store:
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

    async def fork(self, new_chat_id: str, revision: int | None = None) -> Self:
        """Make a new context that starts from this one, in the same store, and return it, loaded.

        The rows are copied within the database. What was paid for models stays with this one in the reports.

        Args:
            new_chat_id: Its chat; the user is the same.
            revision: Which state; the one that is shown if not given.

        Raises:
            InvalidArgumentError: That is no number of a revision.
            ContextExistsError: There is a context of that chat already.
            UnsavedChangesError: There are unsaved changes here.
            ContextNotFoundError: The store does not have the context.
            RevisionNotFoundError: It has no such revision, or what was removed since was pruned.
            UnsupportedByStoreError: The store keeps no revisions.
        """
        async with self._revisions_of() as store, self._in_turn():
            await self._refuse_unsaved(store, "be forked")
            shown = self.revision if self.is_past else None
            key = await store.fork(self.key, new_chat_id, revision=shown if revision is None else revision)
        data = {"user_id": key.user_id, "chat_id": key.chat_id}
        forked = type(self)(
            data,
            self.task_dir,
            store=self._store,
            database_url=self._url,
            history_limit=self._history_limit,
            clock=self._clock,
        )
        await forked.load()
        return forked

    # How.

    @asynccontextmanager
    async def _revisions_of(self) -> AsyncIterator[Store]:
        """Yield the store, for what is about the states that it keeps."""
        async with self._used_store() as store:
            if store is None:
                raise UnsupportedByStoreError(
                    "show earlier states", "a context without a store", Feature.REVISIONS.value
                )
            yield store

    async def _operate(self, operation: Operation, revision: int | None) -> int:
        async with self._revisions_of() as store, self._in_turn():
            if self._is_under_way(operation, revision):
                # It is the same one again, which did not return the last time: it happens once.
                await self._settle_doubt(store)
            else:
                await self._refuse_unsaved(store, operation)
                if self.is_new:
                    await self._load(store)
                if self.is_new:
                    raise ContextNotFoundError(self.key)
                now = datetime.now(UTC).timestamp()
                handout = self._hand_out_operation(self._next_save(), now, operation, revision)
                self._operation = (operation, revision)
                await self._send(store, handout)
            await self._load(store)
        return self.revision

    def _is_under_way(self, operation: Operation, revision: int | None) -> bool:
        """Whether this very operation was sent, and what it made is not in memory yet."""
        if self._in_doubt is not None:
            delta = self._in_doubt.delta
            return (delta.operation, delta.source_revision) == (operation, revision)
        return self._saving.must_reload and self._operation == (operation, revision)
