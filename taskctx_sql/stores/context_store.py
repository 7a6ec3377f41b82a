"""The small protocol that every store follows."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from enum import Enum
from typing import Protocol

from taskctx_sql.model import ContextKey, ContextSummary, Delta, Loaded, Saved, StoredUpdate
from taskctx_sql.stores.pinging import answering


class Feature(Enum):
    """What a store can keep beyond the history itself."""

    USERS = "the user is part of a context's identity"
    METADATA = "metadata and toggles"
    TRACKERS = "both trackers as they are, rather than what the history says of them"
    RUNS = "the runs with their outcome"
    STATE = "values by name beside the history, and labels"
    REVISIONS = "revisions that outlive the process, and the record of what was removed"


class ContextStore(Protocol):
    """Where contexts are kept: the contract of a store of your own.

    `TaskContext` needs no more than this. What only databases do, such as revisions, is in `RevisionStore`,
    `WatchableStore` and `StateStore`. A subclass of `Store` needs no more either: it gets the rest, which says that it
    is not supported.

    **Identity.** A context is reached by its `ContextKey` alone: user and chat.

    **Order.** The history's order is that of the seqs, which rise by one from 1; clocks are data.

    **Errors.** Whatever the database or the file system raises arrives as a `StoreError` with the original as its
    ``__cause__``. "Not there" is an answer, and never an error.

    **Lifecycle.** `open_store` returns an open store. It belongs to the event loop and the process it was opened
    in; another one gets `WrongEventLoopError`. After `close` all but `close` raise `StoreClosedError`.

    **Cancellation.** A cancelled call that writes finishes its work before the cancellation goes on, so that it was
    done wholly or not at all; one that reads ends at once. No connection or lock is left behind. A database that does
    not answer is waited for some seconds at most, so that ``asyncio.timeout`` takes effect.
    """

    @property
    @abstractmethod
    def database_url(self) -> str:
        """What the store was opened with, with any password masked."""

    @property
    @abstractmethod
    def features(self) -> frozenset[Feature]:
        """What the store keeps."""

    @abstractmethod
    async def load(
        self,
        key: ContextKey,
        /,
        *,
        history_limit: int | None = None,
        revision: int | None = None,
        at: float | None = None,
        max_chars: int | None = None,
        types: Sequence[str] | None = None,
        keep_types: Sequence[str] = (),
    ) -> Loaded:
        """Return a context as it is now, at one moment, or as it was.

        Updates that share a ``group`` in their metadata are chosen together or not at all, in the place of the newest
        of them. The first that does not fit ends the choice.

        Args:
            key: Whose context.
            history_limit: Return only the newest updates, this many. ``updates`` has the others.
            revision: Return it as it was in this revision.
            at: Return it as it was at this time, seconds since the epoch, UTC, by the clocks of who saved.
            max_chars: Return only the newest updates whose data fits into so many characters, as JSON text.
            types: Return only updates of these types.
            keep_types: Return updates of these types in any case, however old; they are paid for first.

        Returns:
            The context; with revision 0 and nothing in it if the store does not have it.

        Raises:
            InvalidArgumentError: A value is not what it must be, or two contradict each other.
            ContextNotFoundError: An earlier state is asked for, and the store does not have the context.
            RevisionNotFoundError: It has no such state, or what was removed since was pruned.
            UnsupportedByStoreError: An earlier state is asked for, and the store keeps none.
            CorruptRecordError: A row cannot be read back.
            UnreadableFileError: A history file is not one; it was set aside.
            StoreError: The store failed.
        """

    @abstractmethod
    async def save(self, delta: Delta, /) -> Saved:
        """Write a delta in one transaction: all of it, or nothing.

        Appends of several writers to one context all succeed, in the order of their commits. A delta that was
        written before, known by its run and the number of the save, is not written again; the answer is the same.

        Returns:
            The new revision, and the seqs given to the delta's rows.

        Raises:
            StaleContextError: ``if_unchanged`` was asked for, and another writer saved since the base.
            LostContextError: The context was deleted since the base.
            UnstorableValueError: In strict mode, a value would come back as something else.
            StoreUnavailableError: The store could not be reached for as long as retrying was allowed.
            StoreError: The store failed.
        """

    @abstractmethod
    def updates(
        self,
        key: ContextKey,
        /,
        *,
        after: int = 0,
        before: int | None = None,
        newest_first: bool = False,
        types: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[StoredUpdate]:
        """Return the updates with ``after < seq < before``, read a page at a time as they are asked for.

        Each page is read by itself: an update that another writer removes meanwhile may or may not come.

        Args:
            key: Whose.
            after: Only those with a higher seq.
            before: Only those with a lower seq; None for all.
            newest_first: Return them in descending order of their seqs.
            types: Only updates of these types; None for all.
            limit: How many at the most; None for all. Up to 500 are one query of a database.

        Raises:
            InvalidArgumentError: The types are no list of types, or the limit is no number.
            ContextNotFoundError: The context was deleted when some of it had come.
            CorruptRecordError: A row cannot be read back.
            StoreError: The store failed.
        """

    @abstractmethod
    async def contexts(
        self,
        user_id: str | None,
        /,
        *,
        after: ContextSummary | None = None,
        limit: int = 100,
        labels: Mapping[str, str] | None = None,
        title: str | None = None,
        updated_since: float | None = None,
        state: Sequence[str] | None = (),
    ) -> Sequence[ContextSummary]:
        """Return a user's contexts, or those of all users, the newest first, without their contents.

        Args:
            user_id: Whose; None for those of all users.
            after: The last one of the page before, or None for the first page.
            limit: How many at the most.
            labels: Only contexts that have all of these labels, with these values.
            title: Only contexts whose title contains this text; the case of ASCII letters does not matter.
            updated_since: Only contexts that were saved at this time or later, seconds since the epoch, UTC.
            state: The names of values that each summary has in its ``state``, unless the context has no such value or
                it has expired; None for all of its values. They are read in the same query.

        Raises:
            InvalidArgumentError: A value is not what it must be.
            RowLevelSecurityError: All users are asked for, and this account sees one at a time.
            UnsupportedByStoreError: Labels, a title or named values are asked for, and the store keeps none.
            CorruptRecordError: A value cannot be read back.
            StoreError: The store failed.
        """

    @abstractmethod
    async def delete(self, key: ContextKey, /) -> bool:
        """Erase a context and all that belongs to it. Return whether it was there."""

    async def ping(self, *, timeout: float = 5.0) -> None:  # noqa: ASYNC109  # a limit that it names in its error
        """Return if the store answers now, for a health check. It is asked once, whatever ``retry_seconds`` is.

        Args:
            timeout: How many seconds it has to answer, above 0.

        Raises:
            InvalidArgumentError: The timeout is no such number.
            StoreUnavailableError: It did not answer in time, or could not be reached.
            StoreError: The store failed, or is closed.
        """
        async with answering(timeout, self.database_url):
            await self.contexts("ping", limit=1)

    @abstractmethod
    async def close(self) -> None:
        """Release all that the store holds. Closing twice is harmless."""
