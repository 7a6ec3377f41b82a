"""Building the search index and the daily sums of a database, and how far that is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

import sqlalchemy as sa

from taskctx_sql.sql import engines
from taskctx_sql.sql.plan import Plan, Step
from taskctx_sql.sql.schema import daily_sums, search_index
from taskctx_sql.sql.schema.connect import Database, on_connection
from taskctx_sql.sql.schema.folding import fold_portion
from taskctx_sql.sql.schema.opt_ins import OptIns
from taskctx_sql.sql.schema.search_portion import index_portion

Backlog = Callable[[sa.Connection, str | None], int | None]
Portion = Callable[[str, str | None, int], Plan[int]]

# How many updates or contexts a transaction takes.
_AT_ONCE: Final = 1_000
_PAUSE: Final = 0.01
_PAUSE_OF_OTHERS: Final = 0.1


async def search_backlog(database_url: Database, *, schema: str | None = None) -> int | None:
    """Return how many updates wait to be indexed for searches; None if there is no search index.

    Args:
        database_url: A URL, an engine or a connection.
        schema: On Postgres, the schema that the tables are in.
    """
    return await _backlog(database_url, schema, search_index.backlog)


async def sums_backlog(database_url: Database, *, schema: str | None = None) -> int | None:
    """Return how many contexts wait to be added to the daily sums; None if there are no sums.

    Args:
        database_url: A URL, an engine or a connection.
        schema: On Postgres, the schema that the tables are in.
    """
    return await _backlog(database_url, schema, daily_sums.backlog)


async def build(
    database_url: Database, schema: str | None, wanted: OptIns, progress: Callable[[int], None] | None
) -> None:
    """Build what is wanted, and report how much of it is left after each portion."""
    if wanted.search:
        await _build("build the search index", database_url, schema, index_portion, search_index.backlog, progress)
    if wanted.sums:
        await _build("build the daily sums", database_url, schema, fold_portion, daily_sums.backlog, progress)


async def _backlog(database_url: Database, schema: str | None, backlog: Backlog) -> int | None:
    if isinstance(database_url, str) and engines.is_missing(engines.parse_url(database_url)):
        return None
    return await on_connection(database_url, "read the schema", partial(_read, backlog, schema))


def _read(backlog: Backlog, schema: str | None, connection: sa.Connection) -> int | None:
    return backlog(connection, schema)


async def _build(
    doing: str,
    database_url: Database,
    schema: str | None,
    portion: Portion,
    backlog: Backlog,
    progress: Callable[[int], None] | None,
) -> None:
    def work(connection: sa.Connection) -> int:
        with connection.begin():
            if engines.is_sqlite(connection):
                engines.begin_on_sqlite(connection)
            return _execute(connection, portion(connection.dialect.name, schema, _AT_ONCE))

    async def waiting() -> int:
        return await on_connection(database_url, doing, partial(_read, backlog, schema)) or 0

    # Counted only now and when nothing is left to take, since counting reads all of the queue.
    left = await waiting()
    while True:
        done = await on_connection(database_url, doing, work)
        left = max(left - done, 0) if done > 0 else await waiting()
        if progress is not None:
            progress(left)
        if done <= 0 and not left:
            return
        # Lets those through that wait for a lock; what is left may be what others are at.
        await asyncio.sleep(_PAUSE if done > 0 else _PAUSE_OF_OTHERS)


def _execute(connection: sa.Connection, plan: Plan[int]) -> int:
    """Execute a plan on a connection that is not async."""
    rows = None
    while True:
        try:
            step = plan.send(rows)
        except StopIteration as end:
            return int(end.value)
        assert isinstance(step, Step)
        result = connection.execute(step.statement, dict(cast(Any, step.parameters)))
        rows = result.all() if step.reads else None
