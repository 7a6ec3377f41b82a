"""A context as of a revision: the rows added until then and not removed by then."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import sqlalchemy as sa

from taskctx_sql.errors import RevisionNotFoundError
from taskctx_sql.model import ContextKey
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.plan import Plan, Statement, Step, number, text
from taskctx_sql.sql.schema import contexts, revisions

# Higher than the revision of any context.
LAST_REVISION = 2**63 - 1


class Counters(NamedTuple):
    """The numbers of the next update, model use and file after a revision."""

    next_seq: int
    next_model: int
    next_position: int


def in_revision(table: sa.Table) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions for the rows that the context "context" has in "revision"."""
    remains = sa.or_(table.c.removed_in.is_(None), table.c.removed_in > number("revision"))
    return table.c.context_id == text("context"), table.c.added_in <= number("revision"), remains


def counters(context_id: str, revision: int) -> Plan[Counters | None]:
    """Return the plan that reads the counters after a revision; None if the revision does not exist."""
    rows = yield Step(_select_counters(), {"context": context_id, "revision": revision}, reads=True)
    return Counters(*rows[0]) if rows else None


def newest_at(context_id: str, at: float) -> Plan[int | None]:
    """Return the plan that reads the newest revision saved at a time or earlier."""
    rows = yield Step(_select_newest_at(), {"context": context_id, "at": at}, reads=True)
    return int(rows[0][0]) if rows else None


def mapping_at(context_id: str, revision: int, column: str) -> Plan[str]:
    """Return the plan that reads the metadata or the toggles of a revision."""
    rows = yield Step(_select_mapping(column), {"context": context_id, "revision": revision}, reads=True)
    return str(rows[0][0]) if rows else "{}"


def pruned_until(context_id: str) -> Plan[int]:
    """Return the plan that reads the oldest revision that is complete; earlier ones were pruned. 0 if none was."""
    rows = yield Step(_select_pruned(), {"context": context_id}, reads=True)
    return int(rows[0][0] or 0) if rows else 0


def is_still_there(engine: str, context_id: str, created_at: float) -> Plan[bool]:
    """Return the plan that reads whether the context that this transaction has read was not deleted meanwhile.

    On Postgres each statement sees what is committed when it starts. On SQLite a transaction sees one state.
    """
    if engine == "sqlite":
        return True
    return (yield from is_same_context(context_id, created_at))


def is_same_context(context_id: str, created_at: float) -> Plan[bool]:
    """Return the plan that reads whether a context is the one that an earlier transaction has read."""
    rows = yield Step(_select_created_at(), {"context": context_id}, reads=True)
    return bool(rows and rows[0][0] == created_at)


def check_not_pruned(key: ContextKey, revision: int, newest: int) -> Plan[None]:
    """Return the plan that checks that all rows of a revision are there.

    Raises:
        RevisionNotFoundError: Some of them were pruned.
    """
    pruned = yield from pruned_until(row_codec.context_id(key))
    if revision < pruned:
        raise RevisionNotFoundError(key, revision, newest, pruned)


@cache
def _select_counters() -> Statement:
    columns = (revisions.c.next_seq, revisions.c.next_model, revisions.c.next_position)
    return sa.select(*columns).where(
        revisions.c.context_id == text("context"), revisions.c.revision == number("revision")
    )


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


@cache
def _select_created_at() -> Statement:
    return sa.select(contexts.c.created_at).where(contexts.c.context_id == text("context"))


@cache
def _select_pruned() -> Statement:
    return sa.select(contexts.c.pruned_until).where(contexts.c.context_id == text("context"))
