"""Reports from the daily sums, where a database has them: the same answers as from the rows, at every moment.

One statement takes the sums, subtracts the parts of the contexts that wait to be summed anew, and adds what is in the
rows of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from taskctx_sql.model.report_filters import Filters
from taskctx_sql.sql.reports.clauses import days_of, is_readable, of_owner, rounded, user_of
from taskctx_sql.sql.reports.report import Alternative, Query
from taskctx_sql.sql.schema.sum_tables import DAYS, PARTS, QUEUE, days, parts, queue
from taskctx_sql.sql.schema.usage_parts import AMOUNTS, COUNTS, SUMS, WHOLE, no_day, select_parts

_MINUS: Final = -1
_PLUS: Final = 1


class DailySums:
    """The daily sums of a database, if it has any."""

    def __init__(self, query: Query, engine: str, schema: str | None) -> None:
        self._query = query
        self._engine = engine
        self._schema = schema

    def summed(
        self,
        filters: Filters,
        rows: Callable[[], sa.Select[Any]],
        top: Callable[[int], sa.Select[Any]] | None = None,
    ) -> list[Alternative]:
        """Return what a report reads instead of rows; nothing if the filters ask for more than the sums tell apart."""
        if filters.get("chat_id") is not None:
            return []
        return [Alternative(lambda: {"rows": rows(), "top": top}, partial(self.are_there, user_of(filters)))]

    def by(self, per: str, keys: Sequence[str], filters: Filters) -> sa.Select[Any]:
        """Return the SELECT of the sums by some of their columns, the days as they are there.

        ``per`` is the kind of parts that are added up, as `usage_parts` names them.
        """
        sources = (
            (days, _PLUS, self._of_users(filters, everybody="user_id" not in keys)),
            (parts, _MINUS, [*of_owner(parts, filters), self._waits(parts.c.context_id)]),
            ((now := self._now(per)), _PLUS, of_owner(now, filters)),
        )
        each = [
            sa.select(*(table.c[name] for name in keys), *_signed(table, sign, keys, filters)).where(
                table.c.per == _literal(per), *self._in_period(table, filters), *conditions
            )
            for table, sign, conditions in sources
        ]
        merged = sa.union_all(*each).subquery("merged")
        grouped = [merged.c[name] for name in keys]
        added = [*(_whole(merged.c[name]).label(name) for name in ("tasks", *WHOLE, *COUNTS))]
        added += [sa.func.sum(merged.c[name], type_=sa.Double).label(name) for name in AMOUNTS]
        # What only contexts had that have changed since is not there any more.
        return sa.select(*grouped, *added).group_by(*grouped).having(sa.func.sum(merged.c.calls) > 0)

    def of_days(self, filters: Filters) -> Callable[[sa.Select[Any] | None], list[sa.Subquery]]:
        """Return what returns the rows of contexts in a period, of all or of those whose ids a SELECT has.

        They are the id and `SUMS` of each day. No context is in both: those of the first are summed, the others wait.
        """
        now = self._now("day")

        def of(among: sa.Select[Any] | None) -> list[sa.Subquery]:
            found = []
            for table, conditions in ((parts, [sa.not_(self._waits(parts.c.context_id))]), (now, [])):
                wanted = [] if among is None else [table.c.context_id.in_(among)]
                rows = sa.select(table.c.context_id, *_signed(table, _PLUS, (), filters)).where(*wanted, *conditions)
                in_period = (*self._in_period(table, filters), *of_owner(table, filters))
                found.append(rows.where(table.c.per == _literal("day"), *in_period).subquery())
            return found

        return of

    def of_contexts(self, context_ids: Sequence[str], per: str, keys: Sequence[str]) -> sa.Select[Any]:
        """Return the SELECT of the sums of some contexts over all days, by some columns: these, `WHOLE` and `AMOUNTS`.

        ``per`` is as in `by`.
        """

        def waits(context_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
            return sa.and_(context_id.in_(context_ids), self._waits(context_id))

        summed = [parts.c.context_id.in_(context_ids), sa.not_(self._waits(parts.c.context_id))]
        now = select_parts(self._engine, waits, (per,)).subquery("now")
        each = [
            sa.select(*(table.c[name] for name in (*keys, *WHOLE, *AMOUNTS))).where(
                table.c.per == _literal(per), *conditions
            )
            for table, conditions in ((parts, summed), (now, []))
        ]
        merged = sa.union_all(*each).subquery("merged")
        grouped = [merged.c[name] for name in keys]
        return sa.select(*grouped, *added_up(merged, (*WHOLE, *AMOUNTS))).group_by(*grouped)

    async def are_there(self, user_id: str | None) -> bool:
        """Return whether the database has sums that this account may read."""
        there = is_readable(self._engine, self._schema, QUEUE, PARTS, DAYS)
        return bool((await self._query(there, user_id=user_id))[0][0])

    def times(self, per: str, keys: Sequence[str], filters: Filters) -> sa.Subquery:
        """Return how long calls of tools or uses of models took, and how many took as long, by some columns."""
        now = self._now(per)
        each = [
            sa.select(*(table.c[name] for name in keys), table.c.took.label("duration"), table.c.calls.label("times"))
            .where(table.c.per == _literal(per), table.c.took.is_not(None), *conditions)
            .where(*self._in_period(table, filters), *of_owner(table, filters))
            for table, conditions in ((parts, [sa.not_(self._waits(parts.c.context_id))]), (now, []))
        ]
        return sa.union_all(*each).subquery("times")

    def day_of(self, rows: sa.FromClause) -> sa.ColumnElement[Any]:
        """Return the day of sums, NULL for those of uses without one."""
        return sa.func.nullif(rows.c.day, no_day(self._engine), type_=sa.Date)

    def _now(self, per: str) -> sa.Subquery:
        """Return the parts of a kind of the contexts that wait, as their rows are now."""
        return select_parts(self._engine, self._waits, (per,)).subquery("now")

    def _waits(self, context_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
        waiting = sa.select(queue.c.context_id)
        if self._engine == "sqlite":
            return context_id.in_(waiting)
        # As an array: the planner would take the queue for a large table, as it is empty most of the time.
        return context_id == sa.any_(sa.func.array(waiting.scalar_subquery(), type_=postgresql.ARRAY(sa.Text)))

    def _of_users(self, filters: Filters, *, everybody: bool) -> list[sa.ColumnElement[bool]]:
        if user_of(filters) is not None:
            return of_owner(days, filters)
        return [days.c.user_id.is_(None) if everybody else days.c.user_id.is_not(None)]

    def _in_period(self, table: sa.FromClause, filters: Filters) -> list[sa.ColumnElement[bool]]:
        first, last = days_of(filters)
        conditions = [] if first is None else [table.c.day >= first]
        if last is not None:
            conditions.append(table.c.day <= last)
            conditions += [table.c.day > no_day(self._engine)] if first is None else []
        return conditions


def rounded_amounts(rows: sa.FromClause) -> list[sa.ColumnElement[Any]]:
    """Return the costs and durations of sums as reports have them."""
    return [rounded(rows.c[name]).label(name) for name in AMOUNTS]


def _signed(table: sa.FromClause, sign: int, keys: Sequence[str], filters: Filters) -> list[sa.ColumnElement[Any]]:
    tasks: sa.ColumnElement[Any] = table.c.tasks
    if "day" not in keys:
        # Over several days a task counts once, on its first day in the period.
        first, _ = days_of(filters)
        is_first = table.c.previous == table.c.day
        is_first = is_first if first is None else sa.or_(is_first, table.c.previous < first)
        tasks = sa.case((is_first, tasks), else_=0)
    columns = [tasks, *(table.c[name] for name in SUMS[1:])]
    return [(-column if sign < 0 else column).label(name) for column, name in zip(columns, SUMS, strict=True)]


def added_up(rows: sa.FromClause, names: Sequence[str]) -> list[sa.ColumnElement[Any]]:
    """Return the sums of some of `SUMS` by their names; those of costs and durations are not rounded."""

    def added(name: str) -> sa.ColumnElement[Any]:
        return sa.func.sum(rows.c[name], type_=sa.Double) if name in AMOUNTS else _whole(rows.c[name])

    return [added(name).label(name) for name in names]


def _whole(column: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    return sa.cast(sa.func.sum(column), sa.BigInteger)


def _literal(text: str) -> sa.ColumnElement[str]:
    return sa.literal_column(f"'{text}'", sa.Text)
