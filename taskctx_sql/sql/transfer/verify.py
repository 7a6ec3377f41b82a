"""Comparing a context on both sides after a copy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from taskctx_sql import clock
from taskctx_sql.model import AddProgress, Transferred
from taskctx_sql.sql.load import as_of
from taskctx_sql.sql.store import SqlStore
from taskctx_sql.sql.transfer import read, several
from taskctx_sql.sql.transfer.rows import RUNS, STATE, TABLES, UPDATES, ContextRow, ContextTable, Row
from taskctx_sql.sql.transfer.several import RowsOfContext

GONE: Final = "it was deleted from the source while it was copied"


async def verify_context(
    source: SqlStore, target: SqlStore, context: ContextRow, result: Transferred, report: AddProgress
) -> None:
    """Read a context from both sides, as it was when it was copied, and add every difference to ``result``.

    What is only newer on one side is not a difference.
    """
    there = await target.read("verify", partial(read.context_row, context.key))
    if there is None or there.revision < context.revision:
        result.add_problem(context.key, "it is not in the target")
        return
    differences = _Differences()
    if there.revision == context.revision and not there.is_same_or_later(context):
        differences.certain.append("the context's own row is not the same in the target")
    for table in TABLES:
        async for page in read.read_pages(source, table, context):
            low, high = table.key_of(page[0]), table.key_of(page[-1])
            other = await target.read("verify", partial(read.page_between, table, context, low, high))
            equal = len(page)
            if page != other:
                saved_since = False
                if table is RUNS:
                    now = await source.read("verify", partial(read.context_row, context.key))
                    saved_since = now is not None and not now.is_same(context)
                equal = differences.compare(table, page, other, saved_since=saved_since)
            if table is UPDATES:
                result.verified = (result.verified or 0) + equal
                report(f"comparing {context.key}", equal)
    problems = differences.certain
    if differences.only_in_source:
        pruned = await target.read("verify", partial(as_of.pruned_until, context.context_id))
        last = context.revision + 1
        problems += [text for removed_in, text in differences.only_in_source if pruned < min(removed_in, last)]
    if problems or differences.only_in_target:
        changed = await changed_in_source(source, context)
        if changed == GONE:
            return
        if not isinstance(changed, ContextRow):
            problems += differences.only_in_target
    for problem in problems:
        result.add_problem(context.key, problem)


async def verify_together(
    source: SqlStore,
    target: SqlStore,
    copied: Mapping[ContextRow, RowsOfContext],
    result: Transferred,
    report: AddProgress,
) -> None:
    """Do what `verify_context` does for several small contexts, whose rows in the source are known."""
    there = await target.read("verify", partial(several.read_rows, target.engine_name, list(copied)))
    for context, rows in copied.items():
        now, found = there[context.context_id]
        if now is not None and now.is_same_or_later(context) and several.are_same(rows, found):
            result.verified = (result.verified or 0) + len(rows[UPDATES])
            report(f"comparing {context.key}", len(rows[UPDATES]))
        else:
            # It differs, or one side has gone on since.
            await verify_context(source, target, context, result, report)


async def changed_in_source(source: SqlStore, context: ContextRow) -> str | ContextRow | None:
    """Return `GONE`, or the context's row as it is now if it was pruned since, or None if all of it could be read."""
    return change_since(context, await source.read("copy", partial(read.context_row, context.key)))


def change_since(context: ContextRow, now: ContextRow | None) -> str | ContextRow | None:
    """Return what `changed_in_source` does, of the context's row as it is now."""
    if now is None or now.created_at != context.created_at or now.revision < context.revision:
        return GONE
    return now if now.incomplete_until > context.incomplete_until else None


@dataclass(slots=True)
class _Differences:
    """How the target differs from the source."""

    certain: list[str] = field(default_factory=list)
    # Rows that the target may have pruned, each with the revision in which it was removed.
    only_in_source: list[tuple[int, str]] = field(default_factory=list)
    # Rows that the source may have pruned.
    only_in_target: list[str] = field(default_factory=list)

    def compare(self, table: ContextTable, page: list[Row], other: list[Row], *, saved_since: bool) -> int:
        """Compare a page of the source with the target's, and return how many rows are the same.

        Removed rows that only the target kept are no difference, nor what expired and only one side kept. Runs have no
        revisions: if the source was saved to since, they may be newer there.
        """
        rest = {table.key_of(row): row for row in other}
        equal = 0
        for row in page:
            there = rest.pop(table.key_of(row), None)
            if there == row or (table is RUNS and _is_newer(row, there, saved_since=saved_since)):
                equal += 1
                continue
            if there is None and _is_expired(table, row):
                continue
            where = ", ".join(f"{name} {value}" for name, value in zip(table.key, table.key_of(row), strict=True))
            problem = f"{table.table.name} {where} {'is missing' if there is None else 'is not the same'} in the target"
            if there is None and table.has_removals:
                removed_in = table.value(row, "removed_in")
                self.only_in_source.append((as_of.LAST_REVISION if removed_in is None else int(removed_in), problem))
            else:
                self.certain.append(problem)
        low, high = table.key_of(page[0]), table.key_of(page[-1])
        for key, row in rest.items():
            is_current = table.has_removals and table.value(row, "removed_in") is None
            if low <= key <= high and is_current and not _is_expired(table, row):
                self.only_in_target.append(f"{table.table.name} {key} is in the target only")
        return equal


def _is_expired(table: ContextTable, row: Row) -> bool:
    return table is STATE and (table.value(row, "expires_at") or math.inf) <= clock.now()


def _is_newer(run: Row, there: Row | None, *, saved_since: bool) -> bool:
    """Whether a run differs only because it went on: in the target, or in the source if that was saved to since."""
    if there is None:
        return saved_since
    saves, others = int(RUNS.value(run, "saves")), int(RUNS.value(there, "saves"))
    return saves < others or (saved_since and saves > others)
