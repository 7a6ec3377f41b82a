"""A context's working history out of a database, for the original's format."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from taskctx_sql.errors import ContextNotFoundError, RevisionNotFoundError
from taskctx_sql.json_files import Batches, first_difference, write_history
from taskctx_sql.model import ContextUpdate, TransferOutcome
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.schema import runs
from taskctx_sql.sql.store import SqlStore
from taskctx_sql.sql.transfer import statements
from taskctx_sql.sql.transfer.copy import ATTEMPTS, changed_in_source, pages
from taskctx_sql.sql.transfer.statements import UPDATES, Context

NOT_KEPT = {
    "metadata": "contexts with metadata or toggles",
    "removed": "updates that left the working history",
    "runs": "runs",
}


class Written(NamedTuple):
    """What became of a context's file.

    Attributes:
        context: The context as it was written.
        outcome: What was done.
        updates: How many the file has.
        left_behind: How many there are of what it has no place for.
    """

    context: Context
    outcome: TransferOutcome
    updates: int
    left_behind: dict[str, int]


async def write_context(
    store: SqlStore, context: Context, path: Path, told: Callable[[Batches], Batches], *, replace: bool
) -> Written:
    """Write a context's history file, or that of a later state if it is pruned meanwhile.

    Raises:
        ContextNotFoundError: It was deleted meanwhile; nothing was written.
        RevisionNotFoundError: It was pruned again and again; nothing was written.
        CorruptRecordError: A row cannot be read back; nothing was written.
        OSError: The file cannot be written.
        StoreError: The database failed.
    """
    for attempt in range(1, ATTEMPTS + 1):
        left: dict[str, int] = {}
        try:
            outcome, count = await write_history(path, told(_history(store, context, left)), replace=replace)
        except RevisionNotFoundError:
            now = await store.read("export", partial(statements.context, context.key))
            if attempt == ATTEMPTS:
                raise
            context = now or context
            continue
        await _count_left_behind(store, context, left)
        return Written(context, outcome, count, left)
    raise AssertionError("the last attempt ends in one way or the other")


async def compare_context(
    store: SqlStore, context: Context, path: Path, told: Callable[[Batches], Batches]
) -> tuple[int, str | None]:
    """Compare a file with the context as it was written. What was deleted or pruned since is no difference.

    Returns:
        How many updates are the same from the beginning on, and what is wrong with the next one.
    """
    same, difference = await first_difference(path, told(_history(store, context, {}, checked=False)))
    if difference is not None and await changed_in_source(store, context) is not None:
        difference = None
    return same, difference


async def _history(
    store: SqlStore, context: Context, left_behind: dict[str, int], *, checked: bool = True
) -> AsyncGenerator[list[ContextUpdate]]:
    """Return the updates of a context as it was at its revision, some at a time, without the removed ones.

    Removed ones are counted in ``left_behind``. In the end it is checked that none was missing.
    """
    async for page in pages(store, UPDATES, context):
        live = [row for row in page if UPDATES.value(row, "removed_in") is None]
        if len(live) < len(page):
            what = NOT_KEPT["removed"]
            left_behind[what] = left_behind.get(what, 0) + len(page) - len(live)
        yield [row_codec.update_of_row(context.key, row[1], *row[2:7]) for row in live]
    changed = await changed_in_source(store, context) if checked else None
    if isinstance(changed, str):
        raise ContextNotFoundError(context.key)
    if changed is not None and changed.pruned_until > context.revision:
        raise RevisionNotFoundError(context.key, context.revision, changed.revision, changed.pruned_until)


async def _count_left_behind(store: SqlStore, context: Context, left_behind: dict[str, int]) -> None:
    """Count what a history file has no place for, beside removed updates."""
    named = context.named
    has_metadata = (named["metadata"], named["metadata_toggles"]) != ("{}", "{}")
    statement = sa.select(sa.func.count()).where(runs.c.context_id == context.context_id)
    ((run_count,),) = await store.query(statement, may_lag=False)
    for name, count in (("metadata", int(has_metadata)), ("runs", run_count)):
        if count:
            left_behind[NOT_KEPT[name]] = left_behind.get(NOT_KEPT[name], 0) + count
