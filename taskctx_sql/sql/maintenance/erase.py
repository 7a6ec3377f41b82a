"""Removing for good from a database, in batches with a pause after each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final, TypeVar

from taskctx_sql.model import ContextKey, Pruned, PruneProgress, Retention
from taskctx_sql.sql.maintenance import statements
from taskctx_sql.sql.maintenance.statements import Old
from taskctx_sql.sql.plan import Plan
from taskctx_sql.sql.store import SqlStore

T = TypeVar("T")

# How many contexts are looked at together.
PAGE: Final = 500


class Pruning:
    """The removing, batch by batch, and what came of it so far.

    Args:
        store: The database.
        pruned: Where to count.
        batch: How many rows go in a transaction.
        progress: Told how many contexts are done.
        user_id: Whose contexts; None: everybody's.
    """

    def __init__(
        self, store: SqlStore, pruned: Pruned, batch: int, progress: PruneProgress | None, user_id: str | None = None
    ) -> None:
        """Take the database; nothing is removed yet."""
        self._store = store
        self._pruned = pruned
        self._batch = batch
        self._progress = progress
        self._user_id = user_id
        self._done = 0
        # What a dry run has counted as gone.
        self._gone: set[str] = set()

    async def all(self, retention: Retention, at: float) -> None:
        """Remove what a retention does not keep; see `housekeeping.prune`."""
        if retention.max_age is not None:
            async for old in self._before(at - retention.max_age):
                self._pruned.by_age += await self._remove(old)
        if retention.max_contexts is not None:
            async for user in self._users():
                async for old in self._beyond(user, retention.max_contexts):
                    self._pruned.by_count += await self._remove(old)
        if retention.removed_age is not None:
            async for old in self._before(float("inf")):
                if old.context_id not in self._gone and old.revision:
                    await self._remove_removed(old.context_id, at - retention.removed_age)
                    self._tell()

    async def _remove(self, old: Old) -> int:
        """Erase a context, or count it; return how many are gone."""
        if old.context_id in self._gone:
            return 0
        self._tell()
        if self._pruned.dry_run:
            self._gone.add(old.context_id)
            self._pruned.add(await self._read("count", partial(statements.count, old.context_id)))
            return 1
        return await self.erase(old, guarded=True)

    async def erase(self, old: Old, *, guarded: bool) -> int:
        """Erase a context; return 0 if it is guarded and somebody saved to it.

        It is hidden first: so nobody sees half of it, however many batches it takes, and if this is interrupted.
        """
        self._store.note_gone(ContextKey(old.user_id, old.chat_id))
        # Asked under the lock first: who is in the middle of a save gets through, and then it stays.
        seen = not guarded or await self._write(partial(statements.is_as_seen, old))
        hidden = await self._write(partial(statements.hide, old, guarded=guarded)) if seen else None
        if hidden is None:
            self._pruned.in_use += 1
            return 0
        done = not hidden
        while not done:
            counts, done = await self._write(partial(statements.erase_some, old.context_id, self._batch))
            self._pruned.add(counts)
        return int(hidden)

    async def _remove_removed(self, context_id: str, at: float) -> None:
        revision = await self._read("count", partial(statements.removed_until, context_id, at))
        if not revision:
            return
        ends = await self._read("count", partial(statements.highest, context_id))
        for table, end in ends.items():
            for low in range(0, end, self._batch * 5):
                await self._remove_range(table, context_id, low, low + self._batch * 5, revision)
        low_place = ""
        while True:
            place = partial(statements.file_place, context_id, low_place, self._batch)
            if (high_place := await self._read("count", place)) is None:
                return
            await self._remove_range("taskctx_files", context_id, low_place, high_place, revision)
            low_place = high_place

    async def _remove_range(self, table: str, context_id: str, low: Any, high: Any, revision: int) -> None:
        """Delete what left in a range: most ranges have nothing, and are not written to."""
        found = await self._read("count", partial(statements.count_removed, table, context_id, low, high, revision))
        if found and not self._pruned.dry_run:
            found = await self._write(partial(statements.delete_removed, table, context_id, low, high, revision))
        if found:
            self._pruned.add({table: found})

    async def _read(self, doing: str, plan: Callable[[], Plan[T]]) -> T:
        return await self._store.read(doing, plan, user_id=self._user_id)

    async def _write(self, plan: Callable[[], Any]) -> Any:
        started = time.monotonic()
        result = await self._store.write("prune", plan, user_id=self._user_id)
        took = time.monotonic() - started
        self._pruned.batches += 1
        self._pruned.longest = max(self._pruned.longest, took)
        # Others get as much time as this took: SQLite's waiting writers only look again now and then.
        await asyncio.sleep(took)
        return result

    def _tell(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done)

    # What there is.

    async def of_user(self, key: ContextKey, *, all_chats: bool) -> AsyncIterator[Old]:
        """Return one context, or all of its user."""
        if all_chats:
            async for old in self._before(float("inf")):
                yield old
        elif (found := await self._read("list", partial(statements.one_context, key))) is not None:
            yield found

    async def _users(self) -> AsyncIterator[str]:
        if self._user_id is not None:
            yield self._user_id
            return
        after: str | None = None
        while page := await self._read("list", partial(statements.users_page, after, PAGE)):
            for user in page:
                yield user
            after = page[-1]

    async def _before(self, at: float) -> AsyncIterator[Old]:
        after = ""
        while page := await self._read("list", partial(statements.contexts_before, at, self._user_id, after, PAGE)):
            for old in page:
                yield old
            after = page[-1].context_id

    async def _beyond(self, user: str, kept: int) -> AsyncIterator[Old]:
        # What was counted as gone by age is among these, or is not one of the user's newest: it is older than they.
        while page := await self._read("list", partial(statements.contexts_beyond, user, kept, PAGE)):
            before = self._pruned.in_use
            for old in page:
                yield old
            # Those that stayed are passed over.
            kept += len(page) if self._pruned.dry_run else self._pruned.in_use - before
