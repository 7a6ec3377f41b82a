"""The reports about how much is stored: updates by day and type, and what each user has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.model import TOKEN_KINDS
from taskctx_sql.model.report_filters import Filters
from taskctx_sql.model.report_rows import UserSize
from taskctx_sql.sql import incomplete
from taskctx_sql.sql.engines import day_of, size_of, utc_of
from taskctx_sql.sql.reports.clauses import in_period, is_readable, of_owner, rounded, user_of
from taskctx_sql.sql.reports.report import Alternative, Query, total
from taskctx_sql.sql.reports.summed import DailySums
from taskctx_sql.sql.schema import contexts, runs, state, updates, views
from taskctx_sql.sql.schema.usage_parts import usage_sums

# Besides those that the views read for an account that may read no data.
_TABLES: Final = ("taskctx_contexts", "taskctx_updates", "taskctx_state", "taskctx_runs")
_USES: Final = views.uses
_BYTES: Final = size_of(updates.c.data) + size_of(updates.c.metadata)


class StoredTables:
    """The tables of a database, whose views an account may have to read instead."""

    def __init__(self, query: Query, engine: str, schema: str | None) -> None:
        self._query = query
        self._engine = engine
        self._schema = schema

    def read(self, filters: Filters, fields: Callable[[], Mapping[str, Any]]) -> list[Alternative]:
        """Return what a report reads instead of the views; see `Alternative`."""
        return [Alternative(fields, partial(self._are_readable, user_of(filters)))]

    async def _are_readable(self, user_id: str | None) -> bool:
        readable = is_readable(self._engine, self._schema, *_TABLES)
        return self._engine == "sqlite" or bool((await self._query(readable, user_id=user_id))[0][0])


def select_activity_of_view(filters: Filters) -> sa.Select[Any]:
    """Return the SELECT of the number of updates by type and day, for an account that may not read their data."""
    view = views.activity
    keys, names = (view.c.day, view.c.update_type), ("updates", "removed", "bytes")
    rows = sa.select(*keys, *(total(view.c[name]).label(name) for name in names))
    return rows.where(*of_owner(view, filters), *in_period(view, filters, None, None)).group_by(*keys)


def select_activity(filters: Filters) -> sa.Select[Any]:
    """Return the same from the tables, each of which is read once."""
    day = day_of(updates.c.timestamp).label("day")
    rows = sa.select(day, updates.c.update_type, updates.c.removed_in, _BYTES.label("bytes"))
    if owned := of_owner(contexts, filters):
        rows = rows.join(contexts, contexts.c.context_id == updates.c.context_id)
        rows = rows.where(incomplete.is_there(), *owned)
    else:
        # There are few of them, and many others to look up.
        incompletes = sa.select(contexts.c.context_id).where(contexts.c.revision == sa.literal_column("0"))
        rows = rows.where(updates.c.context_id.not_in(incompletes))
    found = rows.subquery("found")
    keys = (found.c.day, found.c.update_type)
    counted = sa.select(*keys, *_updates(found.c.removed_in, found.c.bytes))
    return counted.where(*in_period(found, filters, None, None)).group_by(*keys)


def select_activity_summed(sums: DailySums, filters: Filters) -> sa.Select[Any]:
    """Return the same from the daily sums."""
    rows = sums.by("type", ("day", "model_id"), filters).subquery("sums")
    keys = (sums.day_of(rows).label("day"), rows.c.model_id.label("update_type"))
    return sa.select(*keys, rows.c.calls.label("updates"), rows.c.removed, rows.c.bytes)


def select_users(filters: Filters) -> sa.Select[Any]:
    """Return the SELECT of what each user has whose last save was in the period. Each table is read once."""
    user, whose = contexts.c.user_id, _whose(filters)

    def added(table: sa.Table, *columns: sa.ColumnElement[Any]) -> sa.Subquery:
        rows = sa.select(user, *columns).join_from(table, contexts, contexts.c.context_id == table.c.context_id)
        return rows.where(incomplete.is_there(), *of_owner(contexts, whose)).group_by(user).subquery()

    in_updates = added(updates, *_updates(updates.c.removed_in, _BYTES))
    in_state = added(state, _whole(size_of(state.c.value)).label("state_bytes"))
    used = sa.select(_USES.c.user_id, *usage_sums(_USES)).where(*of_owner(_USES, whose)).group_by(_USES.c.user_id)
    return _users(filters, in_updates, in_state, added(runs, *_runs()), used.subquery())


def select_users_summed(sums: DailySums, filters: Filters) -> sa.Select[Any]:
    """Return the same from the daily sums."""
    of_updates, own, used = (
        sums.by(per, ("user_id",), _whose(filters)).subquery(f"per_{per}") for per in ("type", "own", "day")
    )
    counted = sa.select(of_updates.c.user_id, of_updates.c.calls.label("updates"), *_named(of_updates, "removed bytes"))
    has = sa.select(own.c.bytes.label("state_bytes"), *_named(own, "user_id runs failed_runs unfinished_runs"))
    tokens = sa.select(*_named(used, " ".join(("user_id", "calls", *TOKEN_KINDS, "cost"))))
    return _users(filters, *(found.subquery() for found in (counted, has, tokens)))


def select_sizes(filters: Filters) -> sa.Select[Any] | None:
    """Return the SELECT of how large each context is, of everybody: id, updates, bytes. Each table is read once.

    It is None where the filters ask for a few contexts, which their view looks up, or for another order.
    """
    if any(filters.get(name) is not None for name in ("user_id", "chat_id", "sort")):
        return None
    written, kept = updates.c.context_id, state.c.context_id
    in_updates = sa.select(written, *_updates(updates.c.removed_in, _BYTES)).group_by(written).subquery("in_updates")
    size = _whole(size_of(state.c.value)).label("bytes")
    in_state = sa.select(kept, size).group_by(kept).subquery("in_state")
    rows = contexts.outerjoin(in_updates, in_updates.c.context_id == contexts.c.context_id)
    rows = rows.outerjoin(in_state, in_state.c.context_id == contexts.c.context_id)
    number = sa.func.coalesce(in_updates.c.updates, 0).label("updates")
    total = sa.func.coalesce(in_updates.c.bytes, 0) + sa.func.coalesce(in_state.c.bytes, 0)
    found = sa.select(contexts.c.context_id, number, total.label("bytes")).select_from(rows)
    period = in_period(contexts, filters, "created_at", "updated_at")
    return found.where(incomplete.is_there(), *of_owner(contexts, filters), *period)


def _named(rows: sa.FromClause, names: str) -> list[sa.ColumnElement[Any]]:
    return [rows.c[name] for name in names.split()]


def _runs() -> list[sa.ColumnElement[int]]:
    """Return the numbers of runs: all, the failed and the unfinished ones."""
    failed = runs.c.outcome == sa.literal_column("'failed'")
    counts = {"runs": sa.func.count(), "failed_runs": sa.func.count(sa.case((failed, 1)))}
    counts["unfinished_runs"] = sa.func.count(sa.case((runs.c.outcome.is_(None), 1)))
    return [count.label(name) for name, count in counts.items()]


def _whole(column: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    """Return the sum of numbers."""
    return sa.cast(sa.func.sum(column), sa.BigInteger)


def _updates(removed_in: sa.ColumnElement[Any], size: sa.ColumnElement[int]) -> list[sa.ColumnElement[int]]:
    counts = (sa.func.count().label("updates"), sa.func.count(removed_in).label("removed"))
    return [*counts, _whole(size).label("bytes")]


def _whose(filters: Filters) -> Filters:
    """Return the filters without a chat and a period."""
    return {"user_id": user_of(filters)}


def _users(filters: Filters, *sums: sa.FromClause) -> sa.Select[Any]:
    """Return the SELECT of the users with the sums of each, which do not have those of whom there is nothing."""
    # Checks the filters.
    of_owner(views.users, filters)
    times = (sa.func.count().label("contexts"), sa.func.max(contexts.c.updated_at).label("updated_at"))
    every = sa.select(contexts.c.user_id, *times).where(incomplete.is_there(), *of_owner(contexts, _whose(filters)))
    users = every.group_by(contexts.c.user_id).subquery("users")
    rows: sa.FromClause = users
    columns: dict[str, sa.ColumnElement[Any]] = {}
    for table in sums:
        rows = rows.outerjoin(table, table.c.user_id == users.c.user_id)
        columns |= {column.name: sa.func.coalesce(column, 0) for column in table.c}
    columns |= {**users.c, "updated_utc": utc_of(users.c.updated_at), "cost": rounded(columns["cost"])}
    columns["bytes"] = columns["bytes"] + columns["state_bytes"]
    found = sa.select(*(columns[name].label(name) for name in UserSize.__dataclass_fields__)).select_from(rows)
    return found.where(*in_period(users, filters, "updated_at", "updated_at"))
