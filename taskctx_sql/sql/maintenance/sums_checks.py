"""Checking the daily sums: that they have what the rows say, and are not far behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.errors.remedies import shell_command
from taskctx_sql.model import Finding
from taskctx_sql.plain_text import counted
from taskctx_sql.sql import incomplete
from taskctx_sql.sql.reports.clauses import is_readable
from taskctx_sql.sql.schema import contexts, daily_sums
from taskctx_sql.sql.schema.sum_tables import DAYS, PARTS, QUEUE, days, parts, queue
from taskctx_sql.sql.schema.usage_parts import AMOUNTS, KEYS, PART, SUMS, select_parts

# A report reads the rows of all that wait.
FAR_BEHIND: Final = 1_000
# How many of the newest tasks are summed anew.
SAMPLE: Final = 200


def check_daily_sums(connection: sa.Connection, schema: str | None, address: str) -> Iterator[Finding]:
    """Yield what there is to say about the daily sums; nothing if there are none, or none that can be read."""
    if not daily_sums.is_there(connection, schema):
        return
    engine = connection.dialect.name
    remedy = f"run {shell_command('upgrade', '--sums', database_url=address, schema=schema)}"
    if missing := daily_sums.missing_parts(connection, schema):
        message = f"the daily sums have no {', '.join(missing)}, so changes are left out of reports"
        yield Finding("sums", "error", message, f"{remedy}, which sums all tasks anew")
        return
    if not connection.scalar(is_readable(engine, schema, QUEUE, PARTS, DAYS)):
        yield Finding("sums", "note", "there are daily sums, which this account may not read")
        return
    wrong = {
        "tasks that are not in them": connection.scalar(_number_of(_left_out())) or 0,
        "tasks in them that are not there": connection.scalar(_number_of(_gone())) or 0,
        f"tasks of the newest {SAMPLE} whose rows add up to something else": _different(connection),
        "days of which the sums are not those of the tasks": connection.scalar(_number_of(_wrong_days())) or 0,
    }
    again = shell_command("upgrade", "--no-sums", database_url=address, schema=schema)
    for what, count in wrong.items():
        if count:
            message = f"the daily sums are wrong: {count:,} {what}"
            yield Finding("sums", "error", message, f"run {again}, and then {remedy.removeprefix('run ')}")
    if any(wrong.values()):
        return
    waiting = daily_sums.backlog(connection, schema) or 0
    if waiting > FAR_BEHIND:
        message = f"the daily sums are behind by {counted(waiting, 'task')}, which each report reads"
        yield Finding("sums", "warning", message, remedy)
    else:
        yield Finding("sums", "ok", "the daily sums have what the rows say")


def _number_of(rows: sa.Select[Any] | sa.CompoundSelect[Any]) -> sa.Select[Any]:
    return sa.select(sa.func.count()).select_from(rows.subquery())


def _has_none(context_id: sa.ColumnElement[str], table: sa.Table) -> sa.ColumnElement[bool]:
    return ~sa.exists().where(table.c.context_id == context_id)


def _left_out() -> sa.Select[Any]:
    """Return the SELECT of the contexts that neither have parts nor wait for them."""
    context_id = contexts.c.context_id
    return sa.select(context_id).where(
        incomplete.is_there(), _has_none(context_id, parts), _has_none(context_id, queue)
    )


def _gone() -> sa.Select[Any]:
    """Return the SELECT of the contexts that have parts, and neither are there nor wait for these to be removed."""
    found = sa.select(parts.c.context_id).distinct().subquery("found")
    there = sa.exists().where(contexts.c.context_id == found.c.context_id, incomplete.is_there())
    return sa.select(found.c.context_id).where(~there, _has_none(found.c.context_id, queue))


def _different(connection: sa.Connection) -> int:
    """Return how many of the newest contexts that do not wait have other parts than their rows say."""
    context_id = contexts.c.context_id
    newest = sa.select(context_id).where(incomplete.is_there(), _has_none(context_id, queue))
    ids = list(connection.scalars(newest.order_by(contexts.c.created_at.desc()).limit(SAMPLE)))
    computed = select_parts(connection.dialect.name, lambda column: column.in_(ids)).subquery("computed")
    there = sa.select(*parts.c).where(parts.c.context_id.in_(ids)).subquery("there")
    return connection.scalar(_number_of(_differing(PART, "context_id", there, computed))) or 0


def _wrong_days() -> sa.Select[Any]:
    """Return the SELECT of the days on which the sums of a user, or of everybody, are not those of the parts."""
    of_users = [parts.c[name] for name in ("user_id", *KEYS)]
    everybody = [days.c[name] for name in KEYS]
    added = sa.select(sa.null().label("user_id"), *everybody, *_added(days)).where(days.c.user_id.is_not(None))
    expected = sa.union_all(
        sa.select(*of_users, *_added(parts)).group_by(*of_users), added.group_by(*everybody)
    ).subquery("expected")
    return _differing(("user_id", *KEYS), "day", days, expected)


def _added(rows: sa.FromClause) -> list[sa.ColumnElement[Any]]:
    return [sa.func.sum(rows.c[name]).label(name) for name in SUMS]


def _differing(keys: Sequence[str], shown: str, there: sa.FromClause, expected: sa.FromClause) -> sa.Select[Any]:
    """Return the SELECT of one of the keys of the rows that are not there as often as expected, or with other sums."""
    both = sa.union_all(
        *(
            sa.select(*(rows.c[name] for name in keys), sa.literal_column(sign).label("sign")).add_columns(
                *(sa.func.coalesce(rows.c[name], 0).label(name) for name in SUMS)
            )
            for sign, rows in (("1", there), ("-1", expected))
        )
    ).subquery("both")

    def differs(name: str) -> sa.ColumnElement[bool]:
        column = both.c[name]
        difference = sa.func.abs(sa.func.sum(both.c.sign * column))
        # Floats add up to slightly different sums in another order.
        return difference > (1e-6 + 1e-9 * sa.func.max(sa.func.abs(column)) if name in AMOUNTS else 0)

    grouped = [both.c[name] for name in keys]
    found = sa.select(both.c[shown]).group_by(*grouped)
    found = found.having(sa.or_(sa.func.sum(both.c.sign) != 0, *map(differs, SUMS)))
    # SQLite has days as text, and what has no day as an empty one.
    differing = found.subquery("differing")
    return sa.select(sa.cast(differing.c[shown], sa.Text).label(shown)).distinct()
