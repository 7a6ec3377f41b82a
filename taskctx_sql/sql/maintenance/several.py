"""Removing several small contexts in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final, NamedTuple

import sqlalchemy as sa

from taskctx_sql.sql import engines, incomplete
from taskctx_sql.sql.maintenance.statements import CANDIDATE, Candidate
from taskctx_sql.sql.plan import Plan, Statement, Step
from taskctx_sql.sql.schema import contexts
from taskctx_sql.sql.small_contexts import Counts

# The contexts' own rows go last: under row-level security, rows without one belong to nobody.
_TABLES: Final = (*incomplete.PARTS, contexts)


class Removed(NamedTuple):
    """How many rows were removed, by table, and what became of the contexts. Those in neither list were gone."""

    counts: Counts
    removed: list[Candidate]
    # Somebody saved to them since they were read.
    changed: list[Candidate]
    # Somebody has locked them.
    busy: list[Candidate]


def remove(engine: str, seen: Sequence[Candidate], *, guarded: bool) -> Plan[Removed]:
    """Remove contexts as a whole; if they are guarded, only those that nobody saved to since they were read.

    It never waits for somebody who has locked a context, who would make others wait for the rest of them.
    """
    given = {"given": engines.list_value(engine, [context.context_id for context in seen])}
    rows = yield Step(_lock(engine), given, reads=True)
    now = {row[0]: Candidate(*row) for row in rows or ()}
    there = set(now)
    if len(there) < len(seen):
        there = {row[0] for row in (yield Step(_select(engine), given, reads=True)) or ()}
    done = Removed({}, [], [], [])
    for context in seen:
        if context.context_id in now:
            is_changed = guarded and now[context.context_id] != context
            (done.changed if is_changed else done.removed).append(context)
        elif context.context_id in there:
            done.busy.append(context)
    if done.removed:
        given = {"given": engines.list_value(engine, [context.context_id for context in done.removed])}
        for table in _TABLES:
            gone = yield Step(_delete(engine, table), given, reads=True)
            done.counts[table.name] = len(gone or ())
    return done


@cache
def _lock(engine: str) -> Statement:
    given = engines.is_in_list(engine, contexts.c.context_id, "given")
    return sa.select(*CANDIDATE).where(given).order_by(contexts.c.context_id).with_for_update(skip_locked=True)


@cache
def _select(engine: str) -> Statement:
    return sa.select(contexts.c.context_id).where(engines.is_in_list(engine, contexts.c.context_id, "given"))


@cache
def _delete(engine: str, table: sa.Table) -> Statement:
    given = engines.is_in_list(engine, table.c.context_id, "given")
    return sa.delete(table).where(given).returning(table.c.context_id)
