"""Indexing what waits in the queue of the search index, a portion in a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final, cast

import sqlalchemy as sa

from taskctx_sql.sql.plan import Plan, Statement, Step, number, text
from taskctx_sql.sql.schema.search_index import (
    BITS,
    INDEX,
    LARGEST_SECONDS,
    LONGEST,
    NO_TIME,
    PORTION,
    QUEUE,
    ROWS,
    indexed_text,
    queue,
)

# On SQLite a portion is a range of the queue, up to a key.
_UP_TO: Final = "q.is_long = 0 AND (q.context_id, q.seq) <= (:context_id, :seq)"
# SQLite does not reorder a CROSS JOIN. Else it may read all updates up to the key, and look for each in the queue.
_WAITING: Final = f"{QUEUE} q CROSS JOIN taskctx_updates u ON u.context_id = q.context_id AND u.seq = q.seq"
_INDEXED: Final = f"SELECT 1 FROM {ROWS} r WHERE r.context_id = q.context_id AND r.seq = q.seq"  # noqa: S608

_TIME: Final = (
    f"CASE WHEN u.timestamp IS NULL THEN {NO_TIME}"
    f" ELSE CAST(max(-{LARGEST_SECONDS}.0, min(u.timestamp, {LARGEST_SECONDS}.0)) * 1000 AS INTEGER) END"
)
_FIRST_FREE: Final = (
    f"coalesce((SELECT max(r.id) + 1 FROM {ROWS} r"  # noqa: S608
    f" WHERE r.id BETWEEN n.time << {BITS} AND (n.time << {BITS}) + {2**BITS - 1}), n.time << {BITS})"
)
STATEMENTS: Final = (
    f"INSERT INTO {ROWS} (id, context_id, seq) SELECT id, context_id, seq FROM ("  # noqa: S608
    f" SELECT {_FIRST_FREE} + row_number() OVER (PARTITION BY n.time) - 1 AS id, n.time, n.context_id, n.seq"
    f" FROM (SELECT u.context_id, u.seq, {_TIME} AS time FROM {_WAITING}"
    f" WHERE {_UP_TO} AND length(u.data) <= {LONGEST}) n) WHERE id < (time + 1) << {BITS}",
    # In the order of the numbers, as FTS5 writes them.
    f"INSERT INTO {INDEX} (rowid, body) SELECT r.id, {indexed_text('u.data')}"  # noqa: S608
    f" FROM {_WAITING} JOIN {ROWS} r ON r.context_id = q.context_id AND r.seq = q.seq WHERE {_UP_TO} ORDER BY r.id",
    # What is too long, or has the same time as two million others.
    f"UPDATE {QUEUE} AS q SET is_long = 1 WHERE {_UP_TO} AND NOT EXISTS ({_INDEXED})"  # noqa: S608
    " AND EXISTS (SELECT 1 FROM taskctx_updates u WHERE u.context_id = q.context_id AND u.seq = q.seq)",
    f"DELETE FROM {QUEUE} AS q WHERE {_UP_TO}",  # noqa: S608
)


def index_portion(engine: str, schema: str | None, most: int) -> Plan[int]:
    """Return the plan that indexes at most so many updates that wait; its result is how many it took."""
    if engine != "sqlite":
        rows = yield Step(_call(schema), {"most": most}, reads=True)
        return int(rows[0][0]) if rows else 0
    keys: Sequence[Any] = (yield Step(_select_first(), {"most": most}, reads=True)) or ()
    if keys:
        last = {"context_id": keys[-1][0], "seq": keys[-1][1]}
        for statement in _statements():
            yield Step(statement, last)
    return len(keys)


@cache
def _select_first() -> Statement:
    first = sa.select(queue.c.context_id, queue.c.seq).where(queue.c.is_long == sa.literal_column("0"))
    return first.order_by(queue.c.context_id, queue.c.seq).limit(number("most"))


@cache
def _statements() -> tuple[Statement, ...]:
    parameters = (text("context_id"), number("seq"))
    # A plan's statements are typed as SQLAlchemy's; these are text, which is executed in the same way.
    return tuple(cast(Statement, sa.text(one).bindparams(*parameters)) for one in STATEMENTS)


@cache
def _call(schema: str | None) -> Statement:
    functions: Any = sa.func if schema is None else getattr(sa.func, schema)
    return sa.select(getattr(functions, PORTION)(sa.bindparam("most", type_=sa.Integer)))
