"""A context as of a revision: the rows added until then and not removed by then."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, cast

import sqlalchemy as sa

from taskctx_sql.errors import ContextNotFoundError, RevisionNotFoundError
from taskctx_sql.model import ContextKey
from taskctx_sql.sql import incomplete, row_codec
from taskctx_sql.sql.plan import Plan, Statement, Step, number, read_value, text
from taskctx_sql.sql.schema import contexts, revisions

# Higher than the revision of any context.
LAST_REVISION = 2**63 - 1


class Counters(NamedTuple):
    """The numbers of the next update, model use and file after a revision."""

    next_seq: int
    next_model: int
    next_position: int


def in_revision(table: sa.Table, revision: str = "revision") -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions for the rows of the context "context" in the revision that a parameter gives."""
    remains = sa.or_(table.c.removed_in.is_(None), table.c.removed_in > number(revision))
    return table.c.context_id == text("context"), table.c.added_in <= number(revision), remains


def current(key: ContextKey, *columns: str) -> Plan[Sequence[Any]]:
    """Return the plan that reads columns of a context's row, or raises ContextNotFoundError."""
    rows = yield Step(select_current(*columns), {"context": row_codec.context_id(key)}, reads=True)
    if not rows:
        raise ContextNotFoundError(key)
    return cast(Sequence[Any], rows[0])


def counters(key: ContextKey, revision: int, newest: int) -> Plan[Counters]:
    """Return the plan that reads the counters after a revision, or raises RevisionNotFoundError."""
    yield from check_not_pruned(key, revision, newest)
    which = {"context": row_codec.context_id(key), "revision": revision}
    rows = yield Step(_select_counters(), which, reads=True)
    if not rows:
        raise RevisionNotFoundError(key, revision, newest)
    return Counters(*rows[0])


def newest_at(context_id: str, at: float) -> Plan[int | None]:
    """Return the plan that reads the newest revision saved at a time or earlier."""
    newest: int | None = yield from read_value(_select_newest_at(), {"context": context_id, "at": at})
    return newest


def mapping_at(context_id: str, revision: int, column: str) -> Plan[str]:
    """Return the plan that reads the metadata or the toggles of a revision."""
    return (yield from read_value(_select_mapping(column), {"context": context_id, "revision": revision})) or "{}"


def pruned_until(context_id: str) -> Plan[int]:
    """Return the plan that reads the oldest revision that is complete; earlier ones were pruned. 0 if none was."""
    return (yield from read_value(select_current("pruned_until"), {"context": context_id})) or 0


def is_still_there(engine: str, context_id: str, created_at: float) -> Plan[bool]:
    """Return the plan that reads whether the context that this transaction has read was not deleted meanwhile.

    On Postgres each statement sees what is committed when it starts. On SQLite a transaction sees one state.
    """
    return engine == "sqlite" or (yield from is_same_context(context_id, created_at))


def is_same_context(context_id: str, created_at: float) -> Plan[bool]:
    """Return the plan that reads whether a context is the one that an earlier transaction has read."""
    return bool(created_at == (yield from read_value(select_current("created_at"), {"context": context_id})))


def check_not_pruned(key: ContextKey, revision: int, newest: int) -> Plan[None]:
    """Return the plan that raises RevisionNotFoundError if rows of a revision were pruned."""
    pruned = yield from pruned_until(row_codec.context_id(key))
    if revision < pruned:
        raise RevisionNotFoundError(key, revision, newest, pruned)


@cache
def select_current(*columns: str) -> Statement:
    """Return the SELECT of columns of the context "context", if it is complete."""
    selected = sa.select(*(contexts.c[name] for name in columns))
    return selected.where(contexts.c.context_id == text("context"), incomplete.is_there())


@cache
def _select_counters() -> Statement:
    selected = sa.select(*(revisions.c[name] for name in Counters._fields))
    return selected.where(revisions.c.context_id == text("context"), revisions.c.revision == number("revision"))


@cache
def _select_newest_at() -> Statement:
    # By the clocks of the writers, which may differ.
    saved = revisions.c.saved_at <= sa.bindparam("at", type_=sa.Double)
    statement = sa.select(revisions.c.revision).where(revisions.c.context_id == text("context"), saved)
    return statement.order_by(revisions.c.revision.desc()).limit(1)


@cache
def _select_mapping(column: str) -> Statement:
    value = revisions.c[column]
    statement = sa.select(value).where(
        revisions.c.context_id == text("context"), revisions.c.revision <= number("revision"), value.is_not(None)
    )
    return statement.order_by(revisions.c.revision.desc()).limit(1)
