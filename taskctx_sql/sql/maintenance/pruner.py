"""Removing contexts and rows from a database permanently, in batches with a pause after each."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from taskctx_sql.model import ContextKey, Pruned, PruneProgress, Retention
from taskctx_sql.sql import row_codec, small_contexts
from taskctx_sql.sql.maintenance import expired, several, statements
from taskctx_sql.sql.maintenance.statements import Candidate, Key
from taskctx_sql.sql.plan import Plan
from taskctx_sql.sql.small_contexts import Counts
from taskctx_sql.sql.store import SqlStore

T = TypeVar("T")

# How many contexts are read at once.
PAGE: Final = 500


class Pruner:
    """Removes contexts and rows, so many in a transaction, and adds their counts to ``pruned``."""

    def __init__(
        self, store: SqlStore, pruned: Pruned, batch: int, progress: PruneProgress | None, user_id: str | None = None
    ) -> None:
        self._store = store
        self._pruned = pruned
        self._batch = batch
        self._progress = progress
        self._user_id = user_id
        self._done = 0
        # The ids of contexts that a dry run has counted as removed.
        self._counted: set[str] = set()

    async def prune(self, retention: Retention, at: float) -> None:
        """Remove what a retention does not keep; see `maintenance.prune`."""
        if retention.max_age is not None:
            async for page in self._before(at - retention.max_age):
                self._pruned.by_age += await self.remove(page)
        if retention.max_contexts is not None:
            waiting: list[Candidate] = []
            async for user in self._users():
                kept = retention.max_contexts
                while page := await self._read("list", partial(statements.contexts_beyond, user, kept, PAGE)):
                    waiting += page
                    if len(page) < PAGE and len(waiting) < PAGE:
                        # Those of further users share transactions with them.
                        break
                    before = self._pruned.in_use
                    self._pruned.by_count += await self.remove(waiting)
                    # Contexts counted as removed by age are older than those kept here, so the offset is right.
                    kept += len(page) if self._pruned.dry_run else self._pruned.in_use - before
                    waiting = []
            self._pruned.by_count += await self.remove(waiting)
        if retention.removed_age is not None:
            async for page in self._before(float("inf")):
                for context in page:
                    if context.context_id not in self._counted and context.revision:
                        await self._delete_removed(context.context_id, at - retention.removed_age)
                        self._report(1)
        if retention.expired:
            await self._delete_expired(at)

    async def remove(self, page: Sequence[Candidate], *, guarded: bool = True) -> int:
        """Remove contexts, or in a dry run count them. Return how many; if they are guarded, without those in use.

        Small ones share a transaction, which removes each as a whole.
        """
        page = [context for context in page if context.context_id not in self._counted]
        sizes = await self._count_small(page)

        def rows_of(context: Candidate) -> int | None:
            counts = sizes.get(context.context_id)
            return None if counts is None else sum(counts.values())

        removed = 0
        for group in small_contexts.in_groups(page, rows_of, self._batch):
            is_small = (rows_of(group[0]) or sys.maxsize) <= self._batch
            if self._pruned.dry_run:
                for context in group:
                    await self._count(context, sizes)
                removed += len(group)
            elif is_small:
                removed += await self._remove_together(group, guarded=guarded)
            else:
                removed += await self._remove_in_batches(group[0], guarded=guarded)
            self._report(len(group))
        return removed

    async def _count_small(self, page: Sequence[Candidate]) -> dict[str, Counts]:
        """Count the rows of those contexts that may be small, by the context's id."""
        # A Citus refuses to lock contexts on several machines. Revision 0 says nothing about how many rows there are.
        may_be_small = [] if self._store.is_distributed else [context for context in page if context.revision]
        ids = [context.context_id for context in may_be_small if context.numbers <= self._batch]
        return await self._read("count", partial(small_contexts.count_rows, self._store.engine_name, ids))

    async def _count(self, context: Candidate, sizes: Mapping[str, Counts]) -> None:
        self._counted.add(context.context_id)
        counts = sizes.get(context.context_id)
        if counts is None:
            counts = await self._read("count", partial(statements.count, context.context_id))
        self._pruned.add(counts)

    async def _remove_together(self, group: Sequence[Candidate], *, guarded: bool) -> int:
        for context in group:
            self._store.note_gone(ContextKey(context.user_id, context.chat_id))
        done = await self._write(partial(several.remove, self._store.engine_name, group, guarded=guarded))
        self._pruned.add(done.counts)
        self._pruned.in_use += len(done.changed)
        removed = len(done.removed)
        for context in done.busy:
            removed += await self._remove_in_batches(context, guarded=guarded)
        return removed

    async def _remove_in_batches(self, context: Candidate, *, guarded: bool) -> int:
        """Remove a context; return 0 if it is guarded and somebody saved to it.

        It is hidden first, so nobody sees half of it, however many batches it takes and even if this is interrupted.
        """
        self._store.note_gone(ContextKey(context.user_id, context.chat_id))
        # Checked first, under the lock: a save in progress succeeds, and the context is kept.
        unchanged = not guarded or await self._write(partial(statements.is_unchanged, context))
        hidden = await self._write(partial(statements.hide, context, guarded=guarded)) if unchanged else None
        if hidden is None:
            self._pruned.in_use += 1
            return 0
        done = not hidden
        while not done:
            counts, done = await self._write(partial(statements.erase_some, context.context_id, self._batch))
            self._pruned.add(counts)
        return int(hidden)

    async def _delete_removed(self, context_id: str, at: float) -> None:
        revision = await self._read("count", partial(statements.removed_until, context_id, at))
        if not revision:
            return
        ends = await self._read("count", partial(statements.next_numbers, context_id))
        for table, end in ends.items():
            for low in range(0, end, self._batch * 5):
                await self._delete_range(table, context_id, (low,), (low + self._batch * 5,), revision)
        for table in statements.KEYED:
            after = statements.first_key(table)
            while last := await self._read(
                "count", partial(statements.last_key, table, context_id, after, self._batch)
            ):
                await self._delete_range(table, context_id, after, last, revision)
                after = last

    async def _delete_range(self, table: str, context_id: str, low: Key, high: Key, revision: int) -> None:
        """Delete removed rows of a range. Most ranges have none, and are not written to."""
        count = await self._read("count", partial(statements.count_removed, table, context_id, low, high, revision))
        if count and not self._pruned.dry_run:
            count = await self._write(partial(statements.delete_removed, table, context_id, low, high, revision))
        if count:
            self._pruned.add({table: count})

    async def _delete_expired(self, at: float) -> None:
        if self._pruned.dry_run:
            counts = await self._read("count", partial(expired.count, self._user_id, at))
            left = [count for context_id, count in counts.items() if context_id not in self._counted]
            self._pruned.add({expired.TABLE: sum(left)})
            return
        while keys := await self._read("count", partial(expired.keys, self._user_id, at, self._batch)):
            self._pruned.add({expired.TABLE: await self._write(partial(expired.delete, keys))})

    async def _read(self, doing: str, plan: Callable[[], Plan[T]]) -> T:
        return await self._store.read(doing, plan, user_id=self._user_id)

    async def _write(self, plan: Callable[[], Any]) -> Any:
        started = time.monotonic()
        result = await self._store.write_plan("prune", plan, user_id=self._user_id)
        took = time.monotonic() - started
        self._pruned.batches += 1
        self._pruned.longest = max(self._pruned.longest, took)
        # Give others as much time as this took: SQLite's waiting writers only retry now and then.
        await asyncio.sleep(took)
        return result

    def _report(self, contexts: int) -> None:
        self._done += contexts
        if self._progress is not None:
            self._progress(self._done)

    # Reading the candidates.

    async def contexts_of(self, key: ContextKey, *, all_chats: bool) -> AsyncIterator[Sequence[Candidate]]:
        """Yield one context, or all of its user, page by page."""
        if all_chats:
            async for page in self._before(float("inf")):
                yield page
        elif found := await self._read("list", partial(statements.one_context, row_codec.context_id(key))):
            yield [found]

    async def _users(self) -> AsyncIterator[str]:
        if self._user_id is not None:
            yield self._user_id
            return
        after: str | None = None
        while page := await self._read("list", partial(statements.users_page, after, PAGE)):
            for user in page:
                yield user
            after = page[-1]

    async def _before(self, at: float) -> AsyncIterator[Sequence[Candidate]]:
        after = ""
        while page := await self._read("list", partial(statements.contexts_before, at, self._user_id, after, PAGE)):
            yield page
            after = page[-1].context_id
