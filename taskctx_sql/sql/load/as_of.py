"""The states that a context was in: a revision is the rows that had come by then, and had not left."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import sqlalchemy as sa

from taskctx_sql.errors import RevisionNotFoundError
from taskctx_sql.model import ContextKey
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.plan import Plan, Statement, Step, number, text
from taskctx_sql.sql.schema import contexts, revisions

# No context gets there.
LAST_REVISION = 2**63 - 1


class Place(NamedTuple):
    """What came next after a revision."""

    next_seq: int
    next_model: int
    next_position: int


def in_revision(table: sa.Table) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the condition for what the context "context" holds in "revision"."""
    gone = sa.or_(table.c.removed_in.is_(None), table.c.removed_in > number("revision"))
    return table.c.context_id == text("context"), table.c.added_in <= number("revision"), gone


def find(context_id: str, revision: int) -> Plan[Place | None]:
    """Return the steps that read what came next after a revision; None if it is not there."""
    found = yield Step(_select_place(), {"context": context_id, "revision": revision}, reads=True)
    return Place(*found[0]) if found else None


def newest_at(context_id: str, at: float) -> Plan[int | None]:
    """Return the steps that find the newest revision saved at a time or before."""
    found = yield Step(_select_newest_at(), {"context": context_id, "at": at}, reads=True)
    return int(found[0][0]) if found else None


def mapping_at(context_id: str, revision: int, column: str) -> Plan[str]:
    """Return the steps that read the metadata or the toggles as a revision had them."""
    found = yield Step(_select_mapping(column), {"context": context_id, "revision": revision}, reads=True)
    return str(found[0][0]) if found else "{}"


def pruned_until(context_id: str) -> Plan[int]:
    """Return the steps that read before which revision states can no longer be told in full; 0 if all can."""
    found = yield Step(_select_pruned(), {"context": context_id}, reads=True)
    return int(found[0][0] or 0) if found else 0


def is_still_there(engine: str, context_id: str, created_at: float) -> Plan[bool]:
    """Return the steps that tell if a context is the one still that was read before, and was not deleted meanwhile.

    Postgres reads each statement at a moment of its own. SQLite reads all of a transaction at one.
    """
    if engine == "sqlite":
        return True
    return (yield from is_same(context_id, created_at))


def is_same(context_id: str, created_at: float) -> Plan[bool]:
    """Return the steps that tell if a context is the one still that another transaction read before."""
    found = yield Step(_select_made(), {"context": context_id}, reads=True)
    return bool(found and found[0][0] == created_at)


def check_whole(key: ContextKey, revision: int, newest: int) -> Plan[None]:
    """Return the steps that see that a revision's rows are all there still.

    Raises:
        RevisionNotFoundError: Some of them were pruned.
    """
    pruned = yield from pruned_until(row_codec.context_id(key))
    if revision < pruned:
        raise RevisionNotFoundError(key, revision, newest, pruned)


@cache
def _select_place() -> Statement:
    place = (revisions.c.next_seq, revisions.c.next_model, revisions.c.next_position)
    return sa.select(*place).where(
        revisions.c.context_id == text("context"), revisions.c.revision == number("revision")
    )


@cache
def _select_newest_at() -> Statement:
    # By the clocks of those who saved, which need not agree.
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
def _select_made() -> Statement:
    return sa.select(contexts.c.created_at).where(contexts.c.context_id == text("context"))


@cache
def _select_pruned() -> Statement:
    return sa.select(contexts.c.pruned_until).where(contexts.c.context_id == text("context"))
