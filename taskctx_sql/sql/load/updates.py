"""The updates of a context, one page at a time."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.model import ContextKey, StoredUpdate
from taskctx_sql.sql import engines, incomplete, row_codec
from taskctx_sql.sql.load import as_of
from taskctx_sql.sql.load.as_of import in_revision
from taskctx_sql.sql.plan import Plan, Statement, Step, number, text
from taskctx_sql.sql.schema import contexts, updates

PAGE_SIZE: Final = 500


def read_page(
    engine: str, key: ContextKey, created_at: float | None, low: int, high: int, newest_first: bool
) -> Plan[list[StoredUpdate] | None]:
    """Return the plan that reads the current updates with ``low <= seq < high``.

    It returns None if the context is no longer the one created at that time.

    Raises:
        CorruptRecordError: A row cannot be decoded.
    """
    context_id = row_codec.context_id(key)
    bounds = {"context": context_id, "revision": as_of.LAST_REVISION, "low": low, "high": high}
    rows = (yield Step(select_updates(engine), bounds, reads=True)) or []
    if created_at is None or not (yield from as_of.is_same_context(context_id, created_at)):
        return None
    history = row_codec.read_updates(key, rows)
    page = list(map(StoredUpdate, history.seqs, history.updates))
    return page[::-1] if newest_first else page


def next_seq(key: ContextKey) -> Plan[tuple[float | None, int]]:
    """Return the plan that reads when a context was created and its next seq; None and 1 if it does not exist."""
    rows = yield Step(_select_next_seq(), {"context": row_codec.context_id(key)}, reads=True)
    return (rows[0][0], rows[0][1]) if rows else (None, 1)


@cache
def update_columns(engine: str) -> tuple[sa.ColumnElement[Any], ...]:
    """Return the columns of `row_codec.read_updates`."""
    between = sa.literal_column(f"'{row_codec.BETWEEN}'", sa.Text)
    # One text as UTF-8 takes less memory than two strings.
    joined = engines.as_utf8(engine, updates.c.data.concat(between).concat(updates.c.metadata)).label("text")
    return updates.c.seq, updates.c.timestamp, updates.c.update_type, joined, updates.c.exact


@cache
def select_updates(engine: str) -> Statement:
    """Return the SELECT of the updates from "low" to below "high" as of "revision"."""
    between = (updates.c.seq >= number("low"), updates.c.seq < number("high"))
    return sa.select(*update_columns(engine)).where(*in_revision(updates), *between).order_by(updates.c.seq)


@cache
def _select_next_seq() -> Statement:
    return sa.select(contexts.c.created_at, contexts.c.next_seq).where(
        contexts.c.context_id == text("context"), incomplete.is_there()
    )
