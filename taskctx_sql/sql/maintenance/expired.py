"""Removing named values that have expired: plans and their statements."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.sql.plan import Plan, Rows, Statement, Step, number, text
from taskctx_sql.sql.schema import contexts, state

TABLE: Final = state.name
_AT: Final = sa.bindparam("at", type_=sa.Double)
_KEY: Final = (state.c.context_id, state.c.kind, state.c.name, state.c.added_in)

Key = tuple[Any, ...]


def count(user_id: str | None, at: float) -> Plan[dict[str, int]]:
    """Count the values that have expired at a time, by context."""
    user = {} if user_id is None else {"user": user_id}
    rows = yield Step(_count(of_user=user_id is not None), {"at": at, **user}, reads=True)
    return {row[0]: row[1] for row in rows or ()}


def keys(user_id: str | None, at: float, limit: int) -> Plan[list[Key]]:
    """Read the keys of values that have expired at a time, so many of them, with their contexts."""
    user = {} if user_id is None else {"user": user_id}
    given = {"at": at, "how_many": limit, **user}
    rows = yield Step(_select(of_user=user_id is not None), given, reads=True)
    return [tuple(row) for row in rows or ()]


def delete(keys: Sequence[Key]) -> Plan[int]:
    """Delete versions of values, which never change, so that none of them can be current again."""
    # One by one, since they are of several contexts, which may be on several machines.
    yield Step(_delete(), Rows(tuple(f"gone_{column.name}" for column in _KEY), keys))
    return len(keys)


# Statements.


def _is_expired(*, of_user: bool) -> tuple[sa.ColumnElement[bool], ...]:
    if not of_user:
        return (state.c.expires_at <= _AT,)
    theirs = sa.select(contexts.c.context_id).where(contexts.c.user_id == text("user"))
    return state.c.expires_at <= _AT, state.c.context_id.in_(theirs)


@cache
def _count(*, of_user: bool) -> Statement:
    statement = sa.select(state.c.context_id, sa.func.count()).where(*_is_expired(of_user=of_user))
    return statement.group_by(state.c.context_id)


@cache
def _select(*, of_user: bool) -> Statement:
    return sa.select(*_KEY).where(*_is_expired(of_user=of_user)).order_by(state.c.expires_at).limit(number("how_many"))


@cache
def _delete() -> Statement:
    return sa.delete(state).where(
        *(column == sa.bindparam(f"gone_{column.name}", type_=column.type) for column in _KEY)
    )
