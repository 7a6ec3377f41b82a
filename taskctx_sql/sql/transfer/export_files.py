"""Exporting a context's working history to a file in the original's format."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import sqlalchemy as sa

from taskctx_sql import clock
from taskctx_sql.errors import ContextNotFoundError, RevisionNotFoundError
from taskctx_sql.json_files import Batches, first_difference, write_history
from taskctx_sql.model import ContextUpdate, TransferOutcome
from taskctx_sql.sql import load, row_codec
from taskctx_sql.sql.schema import runs, state
from taskctx_sql.sql.store import SqlStore
from taskctx_sql.sql.transfer import read
from taskctx_sql.sql.transfer.copy import ATTEMPTS
from taskctx_sql.sql.transfer.rows import UPDATES, ContextRow
from taskctx_sql.sql.transfer.verify import changed_in_source

_REMOVED: Final = "updates that left the working history"


class WrittenFile(NamedTuple):
    """A file's context as it was written, the outcome, its number of updates, and what it cannot hold, by kind."""

    context: ContextRow
    outcome: TransferOutcome
    updates: int
    left_behind: dict[str, int]


async def write_context(
    store: SqlStore, context: ContextRow, path: Path, counted: Callable[[Batches], Batches], *, replace: bool
) -> WrittenFile:
    """Write a context's history file, or that of a later revision if it is pruned meanwhile.

    ``counted`` wraps the batches of updates to count them. If the context was deleted meanwhile, is pruned again and
    again, or has a row that cannot be read back, nothing is written.
    """
    attempts = ATTEMPTS
    while True:
        left: dict[str, int] = {}
        try:
            outcome, count = await write_history(path, counted(_history(store, context, left)), replace=replace)
            break
        except RevisionNotFoundError:
            attempts -= 1
            if not attempts:
                raise
            now = await store.read("export", partial(read.context_row, context.key))
            context = now or context
    await _count_left_behind(store, context, left)
    return WrittenFile(context, outcome, count, left)


async def compare_context(
    store: SqlStore, context: ContextRow, path: Path, counted: Callable[[Batches], Batches]
) -> tuple[int, str | None]:
    """Compare a file with the context as it was written; see `first_difference`.

    What was deleted or pruned since is not a difference.
    """
    same, difference = await first_difference(path, counted(_history(store, context, {}, checked=False)))
    if difference is not None and await changed_in_source(store, context) is not None:
        difference = None
    return same, difference


async def _history(
    store: SqlStore, context: ContextRow, left_behind: dict[str, int], *, checked: bool = True
) -> AsyncGenerator[list[ContextUpdate]]:
    """Yield the updates of a context as of its revision, in batches, without the removed ones.

    Removed ones are counted in ``left_behind``. At the end, ``checked`` makes sure that none was missing.
    """
    async for page in read.read_pages(store, UPDATES, context):
        live = [row for row in page if UPDATES.value(row, "removed_in") is None]
        if len(live) < len(page):
            left_behind[_REMOVED] = left_behind.get(_REMOVED, 0) + len(page) - len(live)
        yield [row_codec.update_of_row(context.key, row[1], *row[2:7]) for row in live]
    changed = await changed_in_source(store, context) if checked else None
    if isinstance(changed, str):
        raise ContextNotFoundError(context.key)
    if changed is not None and changed.incomplete_until > context.revision:
        raise RevisionNotFoundError(context.key, context.revision, changed.revision, changed.incomplete_until)


async def _count_left_behind(store: SqlStore, context: ContextRow, left_behind: dict[str, int]) -> None:
    """Count what a history file cannot hold, besides removed updates."""
    has_metadata = (context.metadata, context.metadata_toggles) != ("{}", "{}")
    of_state = (state.c.context_id == context.context_id, state.c.removed_in.is_(None), load.is_kept(clock.now()))
    statement = sa.select(
        sa.select(sa.func.count()).where(runs.c.context_id == context.context_id).scalar_subquery(),
        *(sa.select(sa.func.count()).where(*of_state, state.c.kind == kind).scalar_subquery() for kind in load.KINDS),
    )
    ((run_count, *state_counts),) = await store.query(statement, may_lag=False)
    counts = {"contexts with metadata or toggles": int(has_metadata), "runs": run_count}
    counts |= zip(("state entries", "labels"), state_counts, strict=True)
    left_behind.update({name: count for name, count in counts.items() if count})
