"""The list of a user's contexts."""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy as sa

from taskctx_sql.model import ContextKey, ContextSummary
from taskctx_sql.sql import incomplete, row_codec
from taskctx_sql.sql.plan import Plan, Statement, Step, number, text
from taskctx_sql.sql.schema import contexts


def list_contexts(user_id: str, after: ContextSummary | None, limit: int) -> Plan[list[ContextSummary]]:
    """Return the plan that lists a user's contexts, the newest first."""
    parameters: dict[str, Any] = {"user": user_id, "limit": limit}
    continues = after is not None and after.created_at is not None
    if after is not None and continues:
        last = row_codec.context_id(ContextKey(after.user_id, after.chat_id))
        parameters |= {"last_created_at": after.created_at, "last": last}
    rows = yield Step(_select_page(continues=continues), parameters, reads=True)
    return [ContextSummary(*row) for row in rows or []]


@cache
def _select_page(*, continues: bool) -> Statement:
    statement = sa.select(
        contexts.c.user_id, contexts.c.chat_id, contexts.c.revision, contexts.c.created_at, contexts.c.updated_at
    ).where(contexts.c.user_id == text("user"), incomplete.is_there())
    if continues:
        last = sa.tuple_(sa.bindparam("last_created_at", type_=sa.Double), text("last"))
        statement = statement.where(sa.tuple_(contexts.c.created_at, contexts.c.context_id) < last)
    order = (contexts.c.created_at.desc(), contexts.c.context_id.desc())
    return statement.order_by(*order).limit(number("limit"))
