"""Reading page by page: the updates of a context, and the contexts of a user."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.model import ContextKey, ContextSummary, StoredUpdate
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
    select = as_of.select_current("created_at", "next_seq")
    rows = yield Step(select, {"context": row_codec.context_id(key)}, reads=True)
    return (rows[0][0], rows[0][1]) if rows else (None, 1)


def count_rows(key: ContextKey) -> Plan[int]:
    """Return the plan that reads how many updates and model uses a context has had; 0 if it does not exist."""
    select = as_of.select_current("next_seq", "next_model")
    rows = yield Step(select, {"context": row_codec.context_id(key)}, reads=True)
    return sum(rows[0]) if rows else 0


def list_contexts(user_id: str, after: ContextSummary | None, limit: int) -> Plan[list[ContextSummary]]:
    """Return the plan that lists a user's contexts, the newest first."""
    parameters: dict[str, Any] = {"user": user_id, "limit": limit}
    if after is not None and after.created_at is not None:
        last = row_codec.context_id(ContextKey(after.user_id, after.chat_id))
        parameters |= {"last_created_at": after.created_at, "last": last}
    rows = yield Step(_select_contexts(continues="last" in parameters), parameters, reads=True)
    return [ContextSummary(*row) for row in rows or []]


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
def _select_contexts(*, continues: bool) -> Statement:
    selected = sa.select(*(contexts.c[field.name] for field in fields(ContextSummary)))
    selected = selected.where(contexts.c.user_id == text("user"), incomplete.is_there())
    if continues:
        last = sa.tuple_(sa.bindparam("last_created_at", type_=sa.Double), text("last"))
        selected = selected.where(sa.tuple_(contexts.c.created_at, contexts.c.context_id) < last)
    return selected.order_by(contexts.c.created_at.desc(), contexts.c.context_id.desc()).limit(number("limit"))
