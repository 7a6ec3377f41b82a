"""Reading the calls of tools that have no result."""

from __future__ import annotations

from functools import cache

import sqlalchemy as sa

from taskctx_sql.model import ContextKey, OpenCall
from taskctx_sql.sql import engines, row_codec
from taskctx_sql.sql.load import as_of
from taskctx_sql.sql.plan import Plan, Statement, Step, text
from taskctx_sql.sql.schema import contexts, updates, views


def read_open_calls(engine: str, key: ContextKey | None, user_id: str | None = None) -> Plan[list[OpenCall]]:
    """Return the plan that reads the open calls of a context, a user or everybody, each context's in their order."""
    given = {} if user_id is None else {"user": user_id}
    if key is not None:
        given["context"] = row_codec.context_id(key)
    rows = (yield Step(_select(engine, frozenset(given)), given, reads=True)) or ()
    return [OpenCall(ContextKey(user, chat), *rest) for user, chat, *rest in rows]


def read_calls_to_close(engine: str, key: ContextKey) -> Plan[tuple[int, list[OpenCall]]]:
    """Return the plan that reads a context's revision, or 0 if it is not there, and its open calls then or later."""
    rows = yield Step(as_of.select_current("revision"), {"context": row_codec.context_id(key)}, reads=True)
    return rows[0][0] if rows else 0, (yield from read_open_calls(engine, key))


@cache
def _select(engine: str, given: frozenset[str]) -> Statement:
    shown = views.calls.c
    found = _without_result(engine, given)
    columns = (shown.user_id, shown.chat_id, shown.seq, shown.call_id, shown.name, shown.started_at)
    selected = sa.select(*columns).join_from(
        found, views.calls, sa.and_(shown.context_id == found.c.context_id, shown.seq == found.c.seq)
    )
    selected = selected.where(
        shown.outcome == sa.literal_column("'open'", sa.Text), shown.removed == sa.literal_column("0", sa.BigInteger)
    )
    return selected.order_by(shown.context_id, shown.seq)


def _without_result(engine: str, given: frozenset[str]) -> sa.CTE:
    """Return the calls in the history that have no result there.

    The view looks up the result of each call, which takes several times as long as to see that there is one.
    """
    call, result = updates.alias("call"), updates.alias("result")
    group_of_call, group = (engines.group_of_update(engine, table.name) for table in (call, result))
    results = sa.exists().where(
        result.c.context_id == call.c.context_id,
        group == group_of_call,
        group.is_not(None),
        result.c.seq > call.c.seq,
        result.c.update_type == _literal("tool_result"),
        result.c.removed_in.is_(None),
    )
    found = sa.select(call.c.context_id, call.c.seq).where(
        call.c.update_type == _literal("tool_call"), call.c.removed_in.is_(None), group_of_call.is_not(None), ~results
    )
    if "context" in given:
        found = found.where(call.c.context_id == text("context"))
    if "user" in given:
        of_user = sa.select(contexts.c.context_id).where(contexts.c.user_id == text("user"))
        found = found.where(call.c.context_id.in_(of_user))
    # Both engines would otherwise begin with the view.
    return found.cte("without_result").prefix_with("MATERIALIZED")


def _literal(value: str) -> sa.ColumnElement[str]:
    # So that an index of these updates alone is used.
    return sa.literal_column(f"'{value}'", sa.Text)
