"""All rows of a report in portions, each of which costs what it holds, whatever was read before it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from taskctx_sql.model.report_filters import Filters
from taskctx_sql.sql.reports.clauses import of_owner
from taskctx_sql.sql.row_codec import AnyRow
from taskctx_sql.sql.schema import contexts

Select = Callable[[sa.Select[Any]], Awaitable[Sequence[AnyRow]]]

# What identifies a row within the database; none of them is ever NULL.
_IDENTITY: Final = ("context_id", "run_id", "path_id", "seq")
# So many contexts are read by one statement.
_CONTEXTS: Final = 500


def identity(order: Sequence[str]) -> list[str]:
    """Return the columns that identify the rows of a report in this order, the context first; none for sums."""
    names = {name.lstrip("-") for name in order}
    return [name for name in _IDENTITY if name in names] if "context_id" in names else []


async def read(
    select: Select, rows: sa.Select[Any], names: Sequence[str], order: Sequence[str], filters: Filters, size: int
) -> AsyncGenerator[Sequence[AnyRow], None]:
    """Yield the rows of a report about contexts, at most ``size`` at a time, in the order of their `identity`."""
    view = rows.subquery("r")
    columns = [view.c[name] for name in names]
    keys = [view.c[name] for name in identity(order)]
    places = [list(names).index(key.name) for key in keys]
    async for first, last in _ranges(select, filters):
        after: tuple[Any, ...] | None = None
        whole = keys[0].between(first, last)
        while True:
            for condition in [whole] if after is None else _following(keys, after, last):
                statement = sa.select(*columns).where(condition).order_by(*keys).limit(size)
                if found := await select(statement):
                    after = tuple(found[-1][place] for place in places)
                    yield found
                if len(found) == size:
                    break
            else:
                break


def _following(keys: Sequence[Any], after: tuple[Any, ...], last: str) -> list[sa.ColumnElement[bool]]:
    """Return the conditions for what follows a row: the rest of its context, and then the other contexts.

    One condition for both would not be looked up in an index.
    """
    others = sa.and_(keys[0] > after[0], keys[0] <= last)
    if len(keys) == 1:
        return [others]
    rest = keys[1] > after[1] if len(keys) == 2 else sa.tuple_(*keys[1:]) > sa.tuple_(*map(sa.literal, after[1:]))
    return [sa.and_(keys[0] == after[0], rest), others]


async def _ranges(select: Select, filters: Filters) -> AsyncGenerator[tuple[str, str], None]:
    """Yield the first and the last id of each portion of the contexts."""
    owned = of_owner(contexts, filters)
    after = ""
    while True:
        statement = sa.select(contexts.c.context_id).where(contexts.c.context_id > after, *owned)
        found = await select(statement.order_by(contexts.c.context_id).limit(_CONTEXTS))
        if not found:
            return
        yield found[0][0], found[-1][0]
        after = found[-1][0]
