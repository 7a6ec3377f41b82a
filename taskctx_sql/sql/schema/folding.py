"""Bringing the daily sums up to date: the contexts of a portion of the queue are summed anew, in one transaction.

The statements are the same on both engines. On Postgres they are in a function that is executed as the owner, one at a
time, so that whoever saves brings the sums of everybody up to date.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from taskctx_sql.sql.plan import Plan, Statement, Step, number
from taskctx_sql.sql.schema.checks import qualified
from taskctx_sql.sql.schema.sum_tables import CHANGED, DAYS, FRESH, PARTS, QUEUE
from taskctx_sql.sql.schema.usage_parts import AMOUNTS, KEYS, PART, SUMS, select_parts

FOLD: Final = "taskctx_sums_fold"

_COLUMNS: Final = ", ".join((*PART, *SUMS))
_TAKEN: Final = {
    "sqlite": f"context_id IN (SELECT context_id FROM {QUEUE} WHERE id <= :last)",  # noqa: S608  # our own names
    "postgresql": "context_id = ANY (taken)",
}


def _sum(name: str) -> str:
    return f"sum(p.{name})" if name in AMOUNTS else f"CAST(sum(p.{name}) AS BIGINT)"


def _statements(engine: str) -> Iterator[str]:
    """Yield what sums the taken contexts anew, and computes the sums of the days that this changes."""
    taken, keys = _TAKEN[engine], ", ".join(f"p.{name}" for name in KEYS)
    sums = ", ".join(map(_sum, SUMS))
    into = f"INSERT INTO {DAYS} (user_id, {', '.join((*KEYS, *SUMS))})"
    old, new = f"SELECT {_COLUMNS} FROM {PARTS} WHERE {taken}", f"SELECT {_COLUMNS} FROM {FRESH}"  # noqa: S608
    yield f"INSERT INTO {FRESH} ({_COLUMNS}) {_parts(engine)}"
    yield (
        f"INSERT INTO {CHANGED} (user_id, day) SELECT DISTINCT user_id, day FROM ("  # noqa: S608
        f"SELECT * FROM ({old} EXCEPT {new}) o UNION ALL SELECT * FROM ({new} EXCEPT {old}) n) d"
    )
    yield f"DELETE FROM {PARTS} WHERE {taken}"  # noqa: S608
    yield f"INSERT INTO {PARTS} ({_COLUMNS}) {new}"
    yield f"DELETE FROM {FRESH}"  # noqa: S608
    yield f"DELETE FROM {DAYS} WHERE (user_id, day) IN (SELECT user_id, day FROM {CHANGED})"  # noqa: S608
    yield (
        f"{into} SELECT p.user_id, {keys}, {sums} FROM {PARTS} p"  # noqa: S608
        f" WHERE (p.user_id, p.day) IN (SELECT user_id, day FROM {CHANGED}) GROUP BY p.user_id, {keys}"
    )
    yield f"DELETE FROM {DAYS} WHERE user_id IS NULL AND day IN (SELECT day FROM {CHANGED})"  # noqa: S608
    yield (
        f"{into} SELECT NULL, {keys}, {sums} FROM {DAYS} p"  # noqa: S608
        f" WHERE p.user_id IS NOT NULL AND p.day IN (SELECT day FROM {CHANGED}) GROUP BY {keys}"
    )
    yield f"DELETE FROM {CHANGED}"  # noqa: S608


def _parts(engine: str) -> str:
    def is_taken(context_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
        if engine != "sqlite":
            return context_id == sa.literal_column("ANY (taken)")
        waiting = sa.table(QUEUE, sa.column("id"), sa.column("context_id", sa.Text))
        return context_id.in_(sa.select(waiting.c.context_id).where(waiting.c.id <= sa.literal_column(":last")))

    parts = select_parts(engine, is_taken).subquery()
    statement = sa.select(*(parts.c[name] for name in (*PART, *SUMS)))
    dialect: Callable[[], sa.Dialect] = sqlite.dialect if engine == "sqlite" else postgresql.dialect
    return str(statement.compile(dialect=dialect(), compile_kwargs={"literal_binds": True}))


def fold_function() -> str:
    """Return what creates the function that sums the contexts of at most so many notes anew.

    It returns how many they were, or -1 if another transaction is at it, which may not see the newest notes.

    The notes are removed before rows are read: what is committed in between is counted, and stays noted. Contexts are
    looked up by index whatever the planner knows of the queue, which is empty most of the time.
    """
    return (
        f"CREATE OR REPLACE FUNCTION {FOLD}(most INTEGER) RETURNS BIGINT LANGUAGE plpgsql SECURITY DEFINER"
        " SET search_path FROM CURRENT SET enable_seqscan TO off SET enable_hashjoin TO off"
        f" SET enable_mergejoin TO off AS $function${_body()}$function$"
    )


def has_function(connection: sa.Connection, schema: str | None) -> bool:
    """Whether a Postgres has the function, as it is in this version."""
    find = sa.text("SELECT prosrc FROM pg_proc WHERE oid = to_regprocedure(:name)")
    found = connection.scalar(find, {"name": f"{qualified(connection, schema, FOLD)}(integer)"})
    return bool(found == _body())


def _body() -> str:
    statements = "".join(f"    {statement};\n" for statement in _statements("postgresql"))
    return f"""
DECLARE
    places TID[];
    taken TEXT[];
BEGIN
    IF NOT pg_try_advisory_xact_lock(CAST(CAST('{DAYS}' AS regclass) AS oid)::bigint + {_LOCK}) THEN
        RETURN -1;
    END IF;
    SELECT array_agg(q.place), array_agg(DISTINCT q.context_id) INTO places, taken
    FROM (SELECT ctid AS place, context_id FROM {QUEUE} LIMIT least(most, 10000)) q;
    IF taken IS NULL THEN
        RETURN 0;
    END IF;
    DELETE FROM {QUEUE} WHERE ctid = ANY (places);
    IF most < {_MANY} THEN
        DELETE FROM {QUEUE} WHERE {_TAKEN["postgresql"]};
    END IF;
{statements}\
    RETURN cardinality(taken);
END
"""  # noqa: S608  # our own names


# Of a context that is saved often, all notes are removed at once. That reads the whole queue, so it is not done with so
# many notes: they are those of a long queue.
_MANY: Final = 1_000
# So that the lock is that of no other program, nor of an upgrade; the number of the table tells schemas apart.
_LOCK: Final = 0x7461736B << 32


def fold_portion(engine: str, schema: str | None, most: int) -> Plan[int]:
    """Return the plan that sums at most so many of the waiting contexts anew; its result is how many, or -1."""
    if engine != "sqlite":
        rows = yield Step(_call(schema), {"most": most}, reads=True)
        return int(rows[0][0]) if rows else 0
    waiting: Sequence[Any] = (yield Step(_select_first(), {"most": most}, reads=True)) or ()
    if waiting:
        last = {"last": waiting[-1][0]}
        for statement, takes in _on_sqlite():
            yield Step(statement, last if takes else {})
    return len(waiting)


@cache
def _select_first() -> Statement:
    waiting = sa.table(QUEUE, sa.column("id", sa.BigInteger))
    return sa.select(waiting.c.id).order_by(waiting.c.id).limit(number("most"))


@cache
def _on_sqlite() -> tuple[tuple[Statement, bool], ...]:
    """Return the statements for SQLite, each with whether it has the parameter for the last of the taken."""
    texts = (*_statements("sqlite"), f"DELETE FROM {QUEUE} WHERE id <= :last")  # noqa: S608
    found = []
    for text in texts:
        takes = ":last" in text
        statement = sa.text(text).bindparams(*([number("last")] if takes else []))
        # A plan's statements are typed as SQLAlchemy's; these are text, which is executed in the same way.
        found.append((cast(Statement, statement), takes))
    return tuple(found)


@cache
def _call(schema: str | None) -> Statement:
    functions: Any = sa.func if schema is None else getattr(sa.func, schema)
    return sa.select(getattr(functions, FOLD)(sa.bindparam("most", type_=sa.Integer)))
