"""What only databases add to the small protocol of stores, and all of it together."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from taskctx_sql.errors import InvalidArgumentError, UnsupportedByStoreError
from taskctx_sql.limits import check_number
from taskctx_sql.model import ContextKey, Difference, Revision, StoredUpdate, check_types
from taskctx_sql.stores.context_store import ContextStore, Feature
from taskctx_sql.stores.state_store import StateStore

if TYPE_CHECKING:
    from taskctx_sql.model.report_filters import Moment
    from taskctx_sql.model.search import SearchHit, SearchOrder
    from taskctx_sql.sql.reports import Report, Reports


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

    async def difference(self, key: ContextKey, old: int, new: int, /, *, limit: int | None = None) -> Difference:
        """Return how two revisions of a context differ.

        Args:
            key: Whose.
            old: The number of the one revision.
            new: The number of the other one.
            limit: Return so many updates and uses of models of each kind at the most, the oldest; None for all.

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
        self, key: ContextKey, /, *, after: int = 0, created_at: float | None = None, poll_interval: float = 1.0
    ) -> AsyncGenerator[StoredUpdate, None]:
        """Yield the updates with ``seq > after``, then each new one once it is committed, whoever saves it.

        Every update is delivered exactly once, in the order of the seqs, including one that was removed from the
        history before it was read. The iteration never ends by itself: leave it with ``contextlib.aclosing`` or by
        cancelling the task. It retries while the database is unreachable; after an error, resume it with the last seq
        as ``after``.

        Args:
            key: Which context.
            after: The seq of the last known update. If it does not exist yet, the iteration waits for it.
            created_at: When the context that ``after`` is from was created, as `Loaded` and `Saved` have it. So an
                iteration that is resumed notices that the context was deleted and created anew meanwhile.
            poll_interval: The longest time in seconds until an update is delivered if no notification arrives.

        Raises:
            InvalidArgumentError: At once: the seq or the interval makes no sense.
            UnsupportedByStoreError: At once: the store has no seqs that last.
            ContextNotFoundError: The context is not there, is deleted while it is watched, or is not the one of
                ``created_at``.
            CorruptRecordError: A row cannot be read back.
            StoreUnavailableError: The store could not be reached for as long as retrying was allowed.
            StoreError: The store failed, or was closed.
        """
        raise UnsupportedByStoreError("watch a context", self.database_url, Feature.REVISIONS.value)


class Store(RevisionStore, WatchableStore, StateStore, Protocol):
    """What `open_store` yields. A store that cannot do a part of it raises `UnsupportedByStoreError` there.

    A store of your own that is opened by its address subclasses this, and gets that error wherever it adds nothing.
    """

    @property
    def reports(self) -> Reports:
        """Reports on what was committed: costs, files, errors, sizes, and more.

        Raises:
            UnsupportedByStoreError: The store is not a database.
        """
        raise UnsupportedByStoreError("report", self.database_url, "rows that SQL can query")

    def search(
        self,
        text: str,
        /,
        *,
        user_id: str | None = None,
        chat_id: str | None = None,
        update_type: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: int | None = None,
        order: SearchOrder = "newest",
        case_sensitive: bool = False,
        after: SearchHit | None = None,
    ) -> Report[SearchHit]:
        """Return the updates whose data has all words of a text, removed updates included, the newest first.

        A word is found in strings, keys and numbers, also as a part of other words. What is in double quotes is found
        as it stands there. With a search index (``taskctx upgrade --search``) the hits are the same, and come sooner.

        Args:
            text: The words and "quoted phrases".
            user_id: Only this user's; with None every user's.
            chat_id: Only this chat's; with None every chat's.
            update_type: Only updates of this type.
            since: The beginning of the period, as in `Filters`.
            until: Its end, exclusive; a `date` stands for the end of that day.
            limit: At most so many; with None all.
            order: "newest", or "relevance": the newest 1,000 hits, those first that have the words most often, as
                whole words and in little other text.
            case_sensitive: Whether case matters. If it does not, the case of ASCII letters is ignored, and a word with
                other letters is found as it was given, in lower case, in upper case, and capitalized.
            after: The last hit of the page before.

        Returns:
            A report: ``await`` it for a list, or read it with ``async for``; ``count()`` counts. Those raise
            InvalidArgumentError if the arguments make no sense.

        Raises:
            UnsupportedByStoreError: The store is not a database.
        """
        raise UnsupportedByStoreError("search", self.database_url, "rows that SQL can query")

    async def search_backlog(self) -> int | None:
        """Return how many updates wait to be indexed for searches, which find them all the same; None without an index.

        Raises:
            UnsupportedByStoreError: The store is not a database.
        """
        raise UnsupportedByStoreError("search", self.database_url, "rows that SQL can query")


def check_updates(types: Sequence[str] | None, limit: int | None) -> None:
    """Raise InvalidArgumentError if what `Store.updates` was given makes no sense."""
    check_number("limit", limit, 0, optional=True)
    if types is not None:
        check_types("types", types)


def check_watch(after: int, created_at: float | None, poll_interval: float) -> None:
    """Raise InvalidArgumentError if what `Store.watch` was given makes no sense."""
    check_number("after", after, 0)
    if created_at is not None and (isinstance(created_at, bool) or not isinstance(created_at, int | float)):
        raise InvalidArgumentError("created_at", created_at, "seconds since the epoch, or None")
    if not isinstance(poll_interval, int | float) or not poll_interval > 0:
        raise InvalidArgumentError("poll_interval", poll_interval, "a number of seconds above 0")
