"""Questions about one context, answered by SQL on what was committed, the same on every engine."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from taskctx_sql.records import ContextKey
from taskctx_sql.sql import rows
from taskctx_sql.sql.rows import AnyRow
from taskctx_sql.sql.store import SqlStore
from taskctx_sql.sql.tables import files, runs, updates


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """An update in a timeline. ``data`` is JSON text, ``removed`` says that it left the working history."""

    seq: int
    timestamp: float | None
    update_type: str
    data: str
    removed: bool


@dataclass(frozen=True, slots=True)
class Count:
    """How many there are of something."""

    name: str
    count: int


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run. Times are seconds since the epoch, UTC; ``outcome`` is None while it lasts, or if it broke off."""

    run_id: str
    started_at: float
    ended_at: float | None
    outcome: str | None
    error: str | None
    saves: int
    updates: int

    @property
    def duration(self) -> float | None:
        """Seconds from beginning to end."""
        return None if self.ended_at is None else self.ended_at - self.started_at


async def timeline(store: SqlStore, key: ContextKey, *, limit: int = 20) -> list[TimelineEntry]:
    """Return the newest updates of the whole record, the removed ones included, oldest first."""
    statement = (
        sa.select(
            updates.c.seq,
            updates.c.timestamp,
            updates.c.update_type,
            updates.c.data,
            updates.c.removed_in.is_not(None),
        )
        .where(updates.c.context_id == rows.context_id(key))
        .order_by(updates.c.seq.desc())
        .limit(limit)
    )
    return [TimelineEntry(*_five(row)) for row in reversed(await store.query(statement))]


async def updates_by_type(store: SqlStore, key: ContextKey) -> list[Count]:
    """Return how many updates of each type the whole record has, the most frequent first."""
    number = sa.func.count()
    statement = (
        sa.select(updates.c.update_type, number)
        .where(updates.c.context_id == rows.context_id(key))
        .group_by(updates.c.update_type)
        .order_by(number.desc(), updates.c.update_type)
    )
    return [_count(row) for row in await store.query(statement)]


async def files_by_operation(store: SqlStore, key: ContextKey) -> list[Count]:
    """Return how many tracked files had each operation as their last one, the most frequent first."""
    number = sa.func.count()
    operation = sa.func.coalesce(files.c.operation, "")
    statement = (
        sa.select(operation, number)
        .where(files.c.context_id == rows.context_id(key), files.c.removed_in.is_(None))
        .group_by(operation)
        .order_by(number.desc(), operation)
    )
    return [_count(row) for row in await store.query(statement)]


async def context_runs(store: SqlStore, key: ContextKey, *, limit: int = 10) -> list[RunReport]:
    """Return the newest runs and how many updates each one wrote, oldest first."""
    ident = rows.context_id(key)
    written = (
        sa.select(updates.c.run_id, sa.func.count().label("written"))
        .where(updates.c.context_id == ident)
        .group_by(updates.c.run_id)
        .subquery()
    )
    statement = (
        sa.select(
            runs.c.run_id,
            runs.c.started_at,
            runs.c.ended_at,
            runs.c.outcome,
            runs.c.error,
            runs.c.saves,
            sa.func.coalesce(written.c.written, 0),
        )
        .select_from(runs.outerjoin(written, runs.c.run_id == written.c.run_id))
        .where(runs.c.context_id == ident)
        .order_by(runs.c.started_at.desc(), runs.c.run_id)
        .limit(limit)
    )
    return [_run(row) for row in reversed(await store.query(statement))]


def _five(row: AnyRow) -> tuple[int, float | None, str, str, bool]:
    seq, timestamp, update_type, data, removed = row
    return seq, timestamp, update_type, data, bool(removed)


def _count(row: AnyRow) -> Count:
    name, count = row
    return Count(name, count)


def _run(row: AnyRow) -> RunReport:
    run_id, started_at, ended_at, outcome, error, saves, written = row
    return RunReport(run_id, started_at, ended_at, outcome, error, saves, written)
