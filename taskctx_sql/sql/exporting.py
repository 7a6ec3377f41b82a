"""A context's working history out of a database, for the original's format."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import sqlalchemy as sa

from taskctx_sql.records import ContextUpdate
from taskctx_sql.sql import rows
from taskctx_sql.sql.copying import pages
from taskctx_sql.sql.store import SqlStore
from taskctx_sql.sql.tables import runs
from taskctx_sql.sql.transfer import UPDATES, Context

NOT_KEPT = {
    "metadata": "contexts with metadata or toggles",
    "removed": "updates that left the working history",
    "runs": "runs",
}


async def history(
    store: SqlStore, context: Context, left_behind: dict[str, int]
) -> AsyncGenerator[list[ContextUpdate]]:
    """Return the updates of a context as it was at its revision, some at a time, without the removed ones.

    Removed ones are counted in ``left_behind``.

    Raises:
        CorruptRecordError: A row cannot be read back; it names the seq.
        StoreError: The database failed.
    """
    async for page in pages(store, UPDATES, context):
        live = [row for row in page if UPDATES.value(row, "removed_in") is None]
        if len(live) < len(page):
            what = NOT_KEPT["removed"]
            left_behind[what] = left_behind.get(what, 0) + len(page) - len(live)
        yield [rows.update_of_row(context.key, row[1], *row[2:7]) for row in live]


async def count_left_behind(store: SqlStore, context: Context, left_behind: dict[str, int]) -> None:
    """Count what a history file has no place for, beside removed updates."""
    named = context.named
    has_metadata = (named["metadata"], named["metadata_toggles"]) != ("{}", "{}")
    statement = sa.select(sa.func.count()).where(runs.c.context_id == context.ident)
    ((run_count,),) = await store.query(statement, may_lag=False)
    for name, count in (("metadata", int(has_metadata)), ("runs", run_count)):
        if count:
            left_behind[NOT_KEPT[name]] = left_behind.get(NOT_KEPT[name], 0) + count
