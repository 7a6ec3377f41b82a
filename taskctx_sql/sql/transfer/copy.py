"""Copying contexts from one database to another, row by row: removed rows, runs and revisions too.

Small contexts are added together, in one transaction. A large one is invisible in the target until all of it is there,
and one that is there already is extended in one transaction. So a copy can be interrupted and repeated, and never
overwrites what others write to the target meanwhile.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from taskctx_sql.errors import StoreFailedError
from taskctx_sql.model import AddProgress, TransferOutcome, TransferProgress, Transferred, sum_progress
from taskctx_sql.sql import incomplete, small_contexts
from taskctx_sql.sql.plan import Plan
from taskctx_sql.sql.store import SqlStore
from taskctx_sql.sql.transfer import read, several, write
from taskctx_sql.sql.transfer.rows import FILES, MODELS, REVISIONS, RUNS, STATE, UPDATES, ContextRow, Row
from taskctx_sql.sql.transfer.several import RowsOfContext
from taskctx_sql.sql.transfer.verify import GONE, change_since, changed_in_source, verify_context, verify_together

T = TypeVar("T")

# How often a context that is pruned while it is read is read again from the beginning.
ATTEMPTS: Final = 10
_TABLES_OF_REVISIONS: Final = (UPDATES, MODELS, FILES, STATE, REVISIONS)

_PRUNED: Final = "it was pruned in the source again and again while it was copied: copy it again later"
_ELSEWHERE: Final = "it was changed in the target while it was copied: copy it again when nobody writes to it there"


async def copy_database(
    source: SqlStore,
    target: SqlStore,
    user_id: str | None,
    chat_id: str | None,
    *,
    verify: bool,
    progress: TransferProgress | None,
) -> Transferred:
    """Copy contexts, and compare them afterwards. See `transfer.copy`."""
    result = Transferred(source.database_url, target.database_url, verified=0 if verify else None)
    report = sum_progress(progress, await read.count_updates(source, user_id, chat_id) * (2 if verify else 1))
    copier = _Copier(source, target, result, report)
    async for page in read.read_contexts_in_pages(source, user_id, chat_id):
        result.contexts += len(page)
        result.updates += sum(context.next_seq - 1 for context in page)
        async for group in copier.small_groups(page):
            together = await copier.copy_together(group)
            if verify:
                await verify_together(source, target, together, result, report)
            page = [context for context in page if context not in together]
        for context in page:
            copied = await copier.copy(context)
            if copied is not None and verify:
                await verify_context(source, target, copied, result, report)
    return result


@dataclass(slots=True)
class _Copier:
    """Copies contexts, and adds the outcomes to a result. Small ones share transactions.

    ``_add``, ``_extend`` and ``_copy_end_of_run`` return an empty text, or why it could not be done, or the context as
    it is now if it is to be tried again.
    """

    source: SqlStore
    target: SqlStore
    result: Transferred
    report: AddProgress
    # How many rows to take together next.
    size: int = field(default_factory=lambda: read.PAGE)

    async def small_groups(self, page: Sequence[ContextRow]) -> AsyncGenerator[list[ContextRow]]:
        """Yield the small ones among contexts, in groups to be copied together."""
        if self.source.is_distributed or self.target.is_distributed:
            # Their rows are on several machines.
            return
        ids = [context.context_id for context in page if context.numbers <= self.size]
        counts = await self.source.read("count", partial(small_contexts.count_rows, self.source.engine_name, ids))
        sizes = {context_id: sum(count.values()) for context_id, count in counts.items()}
        small = [context for context in page if sizes.get(context.context_id, sys.maxsize) <= self.size]
        while small:
            group = next(small_contexts.in_groups(small, lambda context: sizes[context.context_id], self.size))
            small = small[len(group) :]
            yield group

    async def copy_together(self, group: Sequence[ContextRow]) -> dict[ContextRow, RowsOfContext]:
        """Copy contexts that the target does not have, in one transaction.

        Return them, and those that are the same there, each with its rows. The others, and all of them if anything
        fails, are to be copied one by one, so that none costs its neighbours.
        """
        try:
            ids = [context.context_id for context in group]
            there = await self.target.read("copy", partial(several.read_contexts, self.target.engine_name, ids))
            new = [context for context in group if context.context_id not in there]
            known = [context for context in group if context.context_id in there]
            same = [context for context in known if there[context.context_id].is_same_or_later(context)]
            wanted = [*new, *same]
            found = await self.source.read("read", partial(several.read_rows, self.source.engine_name, wanted))
            if found:
                self.size = read.next_size(several.all_rows(found), self.size)
            new = [context for context in new if change_since(context, found[context.context_id].now) is None]
            added = await self._write(partial(several.add, self.target.engine_name, new, found)) if new else []
            others = await self.target.read("read", partial(several.read_rows, self.target.engine_name, same))
        except StoreFailedError:
            return {}
        for context in added:
            self.result.outcomes["added"] += 1
            self._count(context, len(found[context.context_id].rows[UPDATES]))
        done = {context: found[context.context_id].rows for context in added}
        for context in same:
            rows = found[context.context_id].rows
            if several.are_same(rows, others[context.context_id].rows):
                self.result.outcomes["unchanged"] += 1
                self.report(f"copying {context.key}", len(rows[UPDATES]))
                done[context] = rows
        return done

    async def copy(self, context: ContextRow) -> ContextRow | None:
        """Copy one context. Return it as it was copied; None if it was refused."""
        for _ in range(ATTEMPTS):
            there = await self.target.read("copy", partial(read.context_row, context.key))
            if there is None or not there.revision:
                await self._write(partial(write.begin, self.target.engine_name, context))
                there = await self.target.read("copy", partial(read.context_row, context.key))
            outcome, reason = await self._compare_heads(context, there)
            if there is None or outcome == "refused":
                break
            copy_rows = {"added": self._add, "extended": self._extend, "unchanged": self._copy_end_of_run}[outcome]
            problem = await copy_rows(context, there)
            if isinstance(problem, ContextRow):
                # It was pruned while it was read, and the removed rows cannot be read any more.
                context = problem
                continue
            reason = problem
            if not reason and not await self._copy_runs(there if outcome == "unchanged" else context):
                reason = _ELSEWHERE
            break
        else:
            reason = _PRUNED
        if reason:
            self.result.refuse(context.key, reason)
            return None
        self.result.outcomes[outcome] += 1
        return context

    async def _compare_heads(self, context: ContextRow, there: ContextRow | None) -> tuple[TransferOutcome, str]:
        """Return what is to be done, and why not if it is refused."""
        if there is None:
            return "refused", "it was deleted from the target while it was copied"
        if there.created_at != context.created_at:
            return "refused", "the target has another context of that user and chat, created at another time"
        if there.revision == 0:
            return ("added" if context.revision else "unchanged"), ""
        common = min(context.revision, there.revision)
        identity = partial(read.revision_identity, context.context_id, common)
        here = await self.source.read("copy", identity)
        if here is None or here != await self.target.read("copy", identity):
            if await changed_in_source(self.source, context) == GONE:
                return "refused", GONE
            return "refused", f"both sides have changed: their revisions {common} are not the same"
        return ("extended" if there.revision < context.revision else "unchanged"), ""

    async def _add(self, context: ContextRow, there: ContextRow) -> str | ContextRow:
        """Write the rows that the target does not have yet, and then make the context visible."""
        for table in _TABLES_OF_REVISIONS:
            # Removals first, since a path has one version at a time.
            async for removals in read.read_removals(self.source, table, context, since=there.revision):
                if await self._write(partial(write.write_removals, table, there, removals)) is None:
                    return _ELSEWHERE
            first = 1
            if table.is_numbered:
                first += await self.target.read("copy", partial(read.last_seq, table, context.context_id))
            async for page in read.read_pages(self.source, table, context, first=first, since=there.revision):
                new = await self._write(partial(write.write_rows, table, there, page))
                if new is None:
                    return _ELSEWHERE
                if table is UPDATES:
                    self._count(context, new)
        if (changed := await changed_in_source(self.source, context)) is not None:
            if changed == GONE:
                await self._write(partial(incomplete.clear, context.context_id))
            return changed
        return "" if await self._write(partial(write.finish, there, context)) else _ELSEWHERE

    async def _extend(self, context: ContextRow, there: ContextRow) -> str | ContextRow:
        """Read what the target does not have yet, and write it in one transaction."""
        changes = []
        for table in _TABLES_OF_REVISIONS:
            lost: list[Row] = []
            if table.has_removals and context.incomplete_until > there.revision:
                keys = partial(read.keys_at, table, context.context_id, there.revision)
                kept = await self.source.read("read", partial(keys, live=False))
                live = await self.target.read("read", partial(keys, live=True))
                lost = sorted(live - kept)
            removals = read.read_removals(self.source, table, context, since=there.revision)
            removed = [row async for page in removals for row in page]
            first = (there.next_seq if table is UPDATES else there.next_model) if table.is_numbered else 1
            pages = read.read_pages(self.source, table, context, first=first, since=there.revision)
            changes.append(write.TableChanges(table, lost, removed, [row async for page in pages for row in page]))
        if (changed := await changed_in_source(self.source, context)) is not None:
            return changed
        added = await self._write(partial(write.extend, there, context, changes))
        if added is None:
            return _ELSEWHERE
        self._count(context, added.get(UPDATES.table.name, 0))
        return ""

    async def _copy_end_of_run(self, context: ContextRow, there: ContextRow) -> str | ContextRow:
        """Update the target's row if a run ended since, which creates no revision."""
        if there.revision == context.revision and there.updated_at < context.updated_at:
            return "" if await self._write(partial(write.finish, there, context)) else _ELSEWHERE
        return ""

    async def _copy_runs(self, context: ContextRow) -> bool:
        async for page in read.read_pages(self.source, RUNS, context):
            if await self._write(partial(write.write_runs, self.target.engine_name, context, page)) is None:
                return False
        return True

    def _count(self, context: ContextRow, added: int) -> None:
        self.result.added += added
        self.report(f"copying {context.key}", added)

    async def _write(self, plan: Callable[[], Plan[T]]) -> T:
        return await self.target.write_plan("copy", plan)
