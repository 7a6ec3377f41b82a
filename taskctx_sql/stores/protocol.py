"""The protocols of stores: the small one that every store follows, and what only databases add."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from taskctx_sql.errors import InvalidArgumentError, UnsupportedByStoreError
from taskctx_sql.limits import check_number
from taskctx_sql.model import ContextKey, ContextSummary, Delta, Difference, Loaded, Revision, Saved, StoredUpdate
from taskctx_sql.stores.pinging import answering

if TYPE_CHECKING:
    from taskctx_sql.sql.reports import Reports


class Feature(Enum):
    """What a store can keep beyond the history itself."""

    USERS = "the user is part of a context's identity"
    METADATA = "metadata and toggles"
    TRACKERS = "both trackers as they are, rather than what the history says of them"
    RUNS = "the runs with their outcome"
    REVISIONS = "revisions that outlive the process, and the record of what was removed"


class ContextStore(Protocol):
    """Where contexts are kept: the contract of a store of your own.

    `TaskContext` needs no more than this. What only databases do, such as revisions, is in `RevisionStore` and
    `WatchableStore`. A subclass of `Store` needs no more either: it gets the rest, which says that it is not supported.

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
        self, key: ContextKey, /, *, after: int = 0, before: int | None = None, newest_first: bool = False
    ) -> AsyncIterator[StoredUpdate]:
        """Return the updates with ``after < seq < before``, read a page at a time as they are asked for.

        Each page is read by itself: an update that another writer removes meanwhile may or may not come.

        Raises:
            ContextNotFoundError: The context was deleted when some of it had come.
            CorruptRecordError: A row cannot be read back.
            StoreError: The store failed.
        """

    @abstractmethod
    async def contexts(
        self, user_id: str, /, *, after: ContextSummary | None = None, limit: int = 100
    ) -> Sequence[ContextSummary]:
        """Return a user's contexts, the newest first, without their contents.

        Args:
            user_id: Whose.
            after: The last one of the page before, or None for the first page.
            limit: How many at the most.

        Raises:
            InvalidArgumentError: The limit is not a number, 0 or more.
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


@runtime_checkable
class RevisionStore(ContextStore, Protocol):
    """A store that keeps every earlier state of its contexts."""

    async def revisions(self, key: ContextKey, /, *, before: int | None = None, limit: int = 100) -> Sequence[Revision]:
        """Return a context's revisions, the newest first.

        Args:
            key: Whose.
            before: Only those with a lower number: the last one of the page before.
            limit: How many at the most.

        Raises:
            InvalidArgumentError: A value is not what it must be.
            ContextNotFoundError: The store does not have the context.
            UnsupportedByStoreError: The store keeps none.
        """
        raise UnsupportedByStoreError("show earlier states", self.database_url, Feature.REVISIONS.value)

    async def difference(self, key: ContextKey, old: int, new: int, /) -> Difference:
        """Return how two revisions of a context differ.

        Raises:
            InvalidArgumentError: One is no number of a revision.
            ContextNotFoundError: The store does not have the context.
            RevisionNotFoundError: It has no such revision, or no longer all of it.
            UnsupportedByStoreError: The store keeps none.
        """
        raise UnsupportedByStoreError("show earlier states", self.database_url, Feature.REVISIONS.value)

    async def fork(self, key: ContextKey, chat_id: str, /, *, revision: int | None = None) -> ContextKey:
        """Make a new context of the same user that starts from one, and return its key.

        Raises:
            InvalidArgumentError: That is no number of a revision.
            ContextNotFoundError: The store does not have the context.
            ContextExistsError: There is a context of the new chat already.
            RevisionNotFoundError: The context has no such revision, or no longer all of it.
            UnsupportedByStoreError: The store keeps no revisions.
        """
        raise UnsupportedByStoreError("show earlier states", self.database_url, Feature.REVISIONS.value)


@runtime_checkable
class WatchableStore(ContextStore, Protocol):
    """A store whose contexts can be followed while others write to them."""

    def watch(
        self, key: ContextKey, /, *, after: int = 0, poll_interval: float = 1.0
    ) -> AsyncGenerator[StoredUpdate, None]:
        """Yield the updates with ``seq > after``, then each new one once it is committed, whoever saves it.

        Every update is delivered exactly once, in the order of the seqs, including one that was removed from the
        history before it was read. The iteration never ends by itself: leave it with ``contextlib.aclosing`` or by
        cancelling the task. It retries while the database is unreachable; after an error, resume it with the last seq
        as ``after``.

        Args:
            key: Which context.
            after: The seq of the last known update. If it does not exist yet, the iteration waits for it.
            poll_interval: The longest time in seconds until an update is delivered if no notification arrives.

        Raises:
            InvalidArgumentError: At once: the seq or the interval makes no sense.
            UnsupportedByStoreError: At once: the store has no seqs that last.
            ContextNotFoundError: The context is not there, or is deleted while it is watched.
            CorruptRecordError: A row cannot be read back.
            StoreUnavailableError: The store could not be reached for as long as retrying was allowed.
            StoreError: The store failed, or was closed.
        """
        raise UnsupportedByStoreError("watch a context", self.database_url, Feature.REVISIONS.value)


class Store(RevisionStore, WatchableStore, Protocol):
    """What `open_store` yields. A store that cannot do a part of it raises `UnsupportedByStoreError` there.

    A store of your own that is opened by its address subclasses this, and gets that error wherever it adds nothing.
    """

    @property
    def reports(self) -> Reports:
        """Reports on what was committed: costs, files, errors, sizes, a search, and more.

        Raises:
            UnsupportedByStoreError: The store is not a database.
        """
        raise UnsupportedByStoreError("report", self.database_url, "rows that SQL can query")


def check_watch(after: int, poll_interval: float) -> None:
    """Raise InvalidArgumentError if what `Store.watch` was given makes no sense."""
    check_number("after", after, 0)
    if not isinstance(poll_interval, int | float) or not poll_interval > 0:
        raise InvalidArgumentError("poll_interval", poll_interval, "a number of seconds above 0")
