"""A report: its rows as a list or one by one, how many there are, and their totals."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Generic, Protocol, TypeVar

import sqlalchemy as sa

from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.model.report_filters import Filters
from taskctx_sql.sql.reports.clauses import ordered, page, typed, user_of
from taskctx_sql.sql.row_codec import AnyRow

T = TypeVar("T")

_PAGE_SIZE: Final = 1_000


class Query(Protocol):
    """Executes a SELECT, as `SqlStore.query` does."""

    async def __call__(self, statement: sa.Select[*tuple[Any, ...]], *, user_id: str | None) -> Sequence[AnyRow]:
        """Return the rows; under row-level security, those of the user."""


@dataclass(frozen=True, slots=True)
class Source(Generic[T]):
    """Where the rows of a report come from.

    Attributes:
        row_type: The type of a row, whose fields are columns.
        rows: Selects all of them, without order.
        order: The columns by which they are ordered, which identify a row; a minus stands for descending.
        after: The row that the first one follows.
        sums: The columns that can be added up.
        key: The columns by which the other columns of a page's rows are looked up, where they are costly to compute.
        selected: Selects ``key`` and the columns of ``order`` at less cost than ``rows``.
    """

    row_type: type[T]
    rows: sa.Select[Any]
    order: Sequence[str]
    after: Any = None
    sums: Sequence[str] = ()
    key: Sequence[str] = ()
    selected: sa.Select[Any] | None = None

    @property
    def columns(self) -> list[str]:
        """The columns that become fields."""
        return [field.name for field in fields(self.row_type)]  # type: ignore[arg-type]  # every row is a dataclass


class Report(Generic[T]):
    """A report, which ``store.reports`` returns: ``await`` it for a list, or read it with ``async for``.

    Both have every row that the filters select, or the first ``limit`` of them. ``async for`` reads a thousand rows at
    a time, each of which follows the last one, whatever was saved meanwhile. `count` and `totals` are over every row,
    whatever the limit.
    """

    def __init__(self, query: Query, row_type: type[T], source: Callable[[], Source[T]], filters: Filters) -> None:
        self.row_type: Final = row_type
        """The type of its rows, a dataclass."""
        self._query = query
        self._source = source
        self._filters = filters

    def __await__(self) -> Generator[Any, None, list[T]]:
        return self._first().__await__()

    async def __aiter__(self) -> AsyncGenerator[T, None]:
        source = self._source()
        left, after = self._filters.get("limit"), source.after
        while left is None or left > 0:
            size = _PAGE_SIZE if left is None else min(left, _PAGE_SIZE)
            found = await self._page(source, after, size)
            for row in found:
                yield row
            if len(found) < size:
                return
            after = found[-1]
            left = None if left is None else left - size

    async def count(self) -> int:
        """Return how many rows the filters select; ``limit`` and ``after`` have no effect."""
        rows = self._source().rows.subquery()
        return int((await self._select(sa.select(sa.func.count()).select_from(rows)))[0][0])

    async def totals(self) -> dict[str, int | float]:
        """Return the number of rows as ``rows``, and the sum of each column that can be added up, such as ``cost``.

        They are over every row that the filters select; ``limit`` and ``after`` have no effect. Missing values are
        left out.
        """
        source = self._source()
        rows = source.rows.subquery()
        sums = [total(rows.c[name]) for name in source.sums]
        columns: list[sa.ColumnElement[Any]] = [sa.func.count(), *(sa.func.coalesce(one, 0) for one in sums)]
        return dict(
            zip(("rows", *source.sums), (await self._select(sa.select(*columns).select_from(rows)))[0], strict=True)
        )

    async def _first(self) -> list[T]:
        source = self._source()
        return await self._page(source, source.after, self._filters.get("limit"))

    async def _page(self, source: Source[T], after: Any, limit: int | None) -> list[T]:
        rows = source.rows.subquery("r")
        order = self._order(source, rows)
        columns = source.columns
        if limit is None or not source.key:
            statement = page(rows, columns, order, after, limit)
        elif source.selected is not None and not self._filters.get("sort"):
            # Two statements, because neither engine looks up the groups of a view that is joined.
            selected = page(source.selected.subquery("s"), source.key, order, after, limit)
            keys = [row[0] for row in await self._select(selected)]
            statement = page(rows, columns, order, None, None).where(rows.c[source.key[0]].in_(keys))
        else:
            found = page(rows, source.key, order, after, limit).subquery("f")
            whole = source.rows.subquery("w")
            same = sa.and_(*(found.c[name] == whole.c[name] for name in source.key))
            statement = sa.select(*(whole.c[name] for name in columns)).select_from(found.join(whole, same))
            statement = statement.order_by(*ordered(whole, order))
        return typed(source.row_type, await self._select(statement))

    def _order(self, source: Source[T], rows: sa.FromClause) -> list[str]:
        """Return the columns to order by: numbers and times descending, texts ascending."""
        if (by := self._filters.get("sort")) is None:
            return list(source.order)
        if by not in source.columns:
            raise InvalidArgumentError("sort", by, f"one of {', '.join(source.columns)}")
        first = by if isinstance(rows.c[by].type, sa.String) else f"-{by}"
        return [first, *(name for name in source.order if name.lstrip("-") != by)]

    async def _select(self, statement: sa.Select[Any]) -> Sequence[AnyRow]:
        return await self._query(statement, user_id=user_of(self._filters))


def total(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return the sum of a column, of the same type on every engine."""
    if isinstance(column.type, sa.Double):
        # Rounded, because the engines do not add in the same order.
        return sa.cast(sa.func.round(sa.cast(sa.func.sum(column), sa.Numeric), 9), sa.Double)
    # Postgres would return a Decimal.
    return sa.cast(sa.func.sum(column), sa.BigInteger)
