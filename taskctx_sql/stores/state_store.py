"""The protocol of stores that are written to without loading, and keep named values beside the histories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from taskctx_sql.errors import UnsupportedByStoreError
from taskctx_sql.model import (
    ContextKey,
    FileChange,
    NewUpdate,
    OpenCall,
    Run,
    Saved,
    StateChange,
    StateEntry,
    StateKind,
    StoredUpdate,
    Write,
)
from taskctx_sql.stores.context_store import ContextStore, Feature


@runtime_checkable
class StateStore(ContextStore, Protocol):
    """A store that is written to without loading, and keeps named values and labels beside each history.

    Values are versioned as the history is: an earlier revision has those of its time. Of two writers that set one
    value, the one that commits last wins.
    """

    async def write(
        self,
        key: ContextKey,
        /,
        *,
        updates: Sequence[NewUpdate] = (),
        models: Sequence[Mapping[str, Any]] = (),
        files: Sequence[FileChange] = (),
        state: Mapping[str, Any] | Sequence[StateChange] = (),
        remove_state: Sequence[str] = (),
        remove_updates: Sequence[int] = (),
        labels: Mapping[str, str | None] | None = None,
        title: str | None = None,
        parent: str | None = None,
        if_revision: int | None = None,
        run: Run | None = None,
    ) -> Saved:
        """Write to a context in one transaction, without loading it. The arguments are those of `Write`.

        Appends of several writers all succeed. A `ContextWriter` does the same faster, and records several writes
        as one run.

        Returns:
            The new revision, and the seqs given to the rows.

        Raises:
            InvalidArgumentError: A value is not what it must be.
            StaleContextError: The context is not at the revision ``if_revision``.
            UnstorableValueError: In strict mode, a value would come back as something else.
            UnsupportedByStoreError: The store cannot do this.
            StoreError: The store failed.
        """
        raise _unsupported(self, "write without loading")

    async def write_together(self, writes: Sequence[Write], /) -> list[Saved]:
        """Write to several contexts, also of several users, in one transaction: all of it, or nothing.

        Args:
            writes: One for each context.

        Returns:
            What `write` returns, in the same order.

        Raises:
            InvalidArgumentError: Two writes are to one context, or a value is not what it must be.
            StaleContextError: A context is not at its ``if_revision``. Nothing was written to any.
            UnsupportedByStoreError: The store cannot do this.
            StoreError: The store failed.
        """
        raise _unsupported(self, "write without loading")

    async def state(
        self,
        key: ContextKey,
        /,
        *names: str,
        prefix: str = "",
        after: str | None = None,
        before: str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        by_time: bool = False,
        revision: int | None = None,
        kind: StateKind = "state",
    ) -> Sequence[StateEntry]:
        """Return named values of a context, in the order of their names, compared by their bytes in UTF-8.

        What has expired is not there, whatever revision is asked for.

        Args:
            key: Whose context.
            names: Only the values of these names.
            prefix: Only those whose names begin with this.
            after: Only those whose names come after this one: the last one of the page before.
            before: Only those whose names come before this one.
            limit: How many at the most.
            newest_first: In the reverse order: of names that rise with time, the newest is the first.
            by_time: In the order in which they were saved, and those of one time in the order of their names.
            revision: As they were in this revision.
            kind: "state", or "label" for the context's labels.

        Returns:
            The values; none if the store does not have the context.

        Raises:
            InvalidArgumentError: A value is not what it must be.
            ContextNotFoundError: An earlier state is asked for, and the store does not have the context.
            RevisionNotFoundError: It has no such revision, or what was removed since was pruned.
            UnsupportedByStoreError: The store keeps none.
            CorruptRecordError: A value cannot be read back.
            StoreError: The store failed.
        """
        raise _unsupported(self, "keep values by name")

    async def data(
        self, key: ContextKey, /, *, types: Sequence[str] | None = None, limit: int | None = None
    ) -> list[Any]:
        """Return the data of a context's updates, oldest first: of all, or of the newest ones.

        A database reads it in half the time of `updates`, since it makes no updates of it. What another writer removes
        while more than some thousands are read may or may not come.

        Args:
            key: Whose.
            types: Only of updates of these types; None for all.
            limit: Only of so many updates, the newest; None for all.

        Raises:
            InvalidArgumentError: The types are no list of types, or the limit is no number.
            ContextNotFoundError: The context was deleted when some of it had come.
            CorruptRecordError: A row cannot be read back.
            StoreError: The store failed.
        """
        newest = self.updates(key, types=types, limit=limit, newest_first=True)
        found = [stored.update.data async for stored in newest]
        return found[::-1]

    async def label(
        self,
        key: ContextKey,
        /,
        *,
        title: str | None = None,
        parent: str | None = None,
        labels: Mapping[str, str | None] | None = None,
    ) -> int:
        """Set or remove labels of a context, as `write` does, and return its new revision."""
        raise _unsupported(self, "keep labels")

    async def pop_update(self, key: ContextKey, /, *, types: Sequence[str] | None = None) -> StoredUpdate | None:
        """Take the newest update out of the history, and return it. Each is returned to one caller only.

        Args:
            key: Whose.
            types: Only an update of these types.

        Returns:
            The update, which the record keeps; None if there is none.

        Raises:
            UnsupportedByStoreError: The store cannot do this.
            StoreError: The store failed.
        """
        raise _unsupported(self, "take out an update")

    async def clear_updates(self, key: ContextKey, /, *, types: Sequence[str] | None = None) -> int:
        """Take all updates out of the history, and return how many. The record keeps them; an undo brings them back.

        Args:
            key: Whose.
            types: Only updates of these types.

        Raises:
            UnsupportedByStoreError: The store cannot do this.
            StoreError: The store failed.
        """
        raise _unsupported(self, "take out updates")

    async def open_calls(self, key: ContextKey | None = None, /, *, user_id: str | None = None) -> Sequence[OpenCall]:
        """Return the calls of tools that are in the history without a result, such as those that a crash left.

        A call is an update "tool_call" with a ``group`` in its metadata. It is open as long as the history has no later
        "tool_result" of that group.

        Args:
            key: Those of this context; None for those of several.
            user_id: Those of this user; None for those of all users.

        Returns:
            The calls, those of each context in the order of its history.

        Raises:
            InvalidArgumentError: Both a context and a user are given.
            RowLevelSecurityError: All users are asked for, and this account sees one at a time.
            UnsupportedByStoreError: The store cannot do this.
            StoreError: The store failed.
        """
        raise _unsupported(self, "list open calls")

    async def close_calls(self, key: ContextKey, /, *, error: str = "interrupted") -> Sequence[OpenCall]:
        """Give each open call of a context a "tool_result" with an error, all in one save.

        Only for a context on which nobody works: a tool that is still running would get a second result.

        Args:
            key: The context.
            error: What the results' data and metadata have as ``error``; their metadata has ``closed`` as well.

        Returns:
            The calls that were open.

        Raises:
            InvalidArgumentError: The error is not a text, or empty.
            UnsupportedByStoreError: The store cannot do this.
            StoreError: The store failed.
        """
        raise _unsupported(self, "close calls")


def _unsupported(store: ContextStore, doing: str) -> UnsupportedByStoreError:
    return UnsupportedByStoreError(doing, store.database_url, Feature.STATE.value)
