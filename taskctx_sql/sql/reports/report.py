"""A report: its rows as a list or one by one, how many there are, and their totals."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

import sqlalchemy as sa

from taskctx_sql.errors import InvalidArgumentError, MissingPackageError
from taskctx_sql.limits import check_number
from taskctx_sql.model.report_filters import Filters
from taskctx_sql.model.report_rows import column_fields
from taskctx_sql.sql.reports import arrow, portions
from taskctx_sql.sql.reports.clauses import ordered, page, rounded, typed, user_of
from taskctx_sql.sql.row_codec import AnyRow

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

T = TypeVar("T")

_PAGE_SIZE: Final = 1_000
# Of a longer page, the rows are not looked up by their keys: a statement of Postgres takes 32,767 parameters.
_MOST_KEYS: Final = 10_000


class Query(Protocol):
    """Executes a SELECT, as `SqlStore.query` does."""

    async def __call__(self, statement: sa.Select[*tuple[Any, ...]], *, user_id: str | None) -> Sequence[AnyRow]:
        """Return the rows; under row-level security, those of the user."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """How a source selects the same rows at less cost, from what a database or an account may not have.

    Attributes:
        fields: Returns the fields of the `Source` that differ.
        is_readable: Returns whether the database has what these read, and the account may read it.
    """

    fields: Callable[[], Mapping[str, Any]]
    is_readable: Callable[[], Awaitable[bool]]


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
        selected: Selects the same rows' ``key``, and the columns of an order, at less cost than ``rows``.
        whole: Selects all rows there are, in which those of ``selected`` are looked up; ``rows`` by default.
        filled: The columns that are never NULL, besides those of a period that has a beginning.
        top: Selects, of the same rows, those that may be among the first so many, at less cost than all of them.
        alternatives: Of these the first that can be read is taken instead.
    """

    row_type: type[T]
    rows: sa.Select[Any]
    order: Sequence[str]
    after: Any = None
    sums: Sequence[str] = ()
    key: Sequence[str] = ()
    selected: sa.Select[Any] | None = None
    whole: sa.Select[Any] | None = None
    filled: Sequence[str] = ()
    top: Callable[[int], sa.Select[Any]] | None = None
    alternatives: Sequence[Alternative] = ()

    @property
    def columns(self) -> list[str]:
        """The columns that become fields."""
        return [field.name for field in column_fields(self.row_type)]


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
        source = await self._readable()
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

    async def portions(self, size: int = 10_000) -> AsyncGenerator[list[T], None]:
        """Yield every row that the filters select, ``size`` at a time, for exports: memory and cost do not grow.

        Rows about contexts come context after context, and not in the order of the report. Each portion is as the
        database is when it is read. With ``limit`` or ``sort`` it is one list, as with ``await``.
        """
        source = await self._readable()
        if self._filters.get("limit") is not None or self._filters.get("sort"):
            yield await self._first()
        elif portions.identity(source.order):
            read = portions.read(self._select, source.rows, source.columns, source.order, self._filters, size)
            async with aclosing(read) as found:
                async for rows in found:
                    yield typed(source.row_type, rows)
        else:
            after = source.after
            while page_of := await self._page(source, after, size):
                yield page_of
                after = page_of[-1]

    async def to_arrow(self) -> pa.Table:
        """Return all rows as a table of Apache Arrow, in the report's order; `arrow.schema_of` describes its types.

        Raises:
            MissingPackageError: pyarrow is not installed.
        """
        schema = arrow.schema_of(self.row_type)
        batches = [arrow.batch(rows, schema) async for rows in self.portions()]
        table: pa.Table = arrow.pyarrow().Table.from_batches(batches, schema)
        if self._filters.get("limit") is not None or self._filters.get("sort"):
            return table
        ways = {True: "descending", False: "ascending"}
        return table.sort_by([(name.lstrip("-"), ways[name.startswith("-")]) for name in self._source().order])

    async def to_pandas(self) -> pd.DataFrame:
        """Return all rows as a data frame: days as times, and numbers with missing values as floats.

        Raises:
            MissingPackageError: pyarrow or pandas is not installed.
        """
        table = await self.to_arrow()
        try:
            frame: pd.DataFrame = table.to_pandas(date_as_object=False)
        except ImportError as error:
            raise MissingPackageError("pandas", "pandas") from error
        return frame

    async def count(self, *, at_most: int | None = None) -> int:
        """Return how many rows the filters select; ``limit`` and ``after`` have no effect.

        With ``at_most`` no more are counted than that, which takes less time if there are many.
        """
        check_number("at_most", at_most, 0, optional=True)
        source = await self._readable()
        rows = source.rows if source.selected is None else source.selected
        # SQLite would compute the columns of each row that is counted up to a limit.
        rows = rows.with_only_columns(sa.literal_column("1"), maintain_column_froms=True).limit(at_most)
        return int((await self._select(sa.select(sa.func.count()).select_from(rows.subquery())))[0][0])

    async def read_page(self, number: int, size: int) -> list[T]:
        """Return the rows of a page, of which the first has the number 1; whatever the limit.

        Rows that are saved meanwhile move others to the next page. A program that reads all of them uses ``async for``.
        """
        check_number("number", number, 1)
        check_number("size", size, 1)
        source = await self._readable()
        return await self._page(source, source.after, size, (number - 1) * size)

    async def totals(self) -> dict[str, int | float]:
        """Return the number of rows as ``rows``, and the sum of each column that can be added up, such as ``cost``.

        They are over every row that the filters select; ``limit`` and ``after`` have no effect. Missing values are
        left out.
        """
        source = await self._readable()
        rows = source.rows.subquery()
        sums = [total(rows.c[name]) for name in source.sums]
        columns: list[sa.ColumnElement[Any]] = [sa.func.count(), *(sa.func.coalesce(one, 0) for one in sums)]
        return dict(
            zip(("rows", *source.sums), (await self._select(sa.select(*columns).select_from(rows)))[0], strict=True)
        )

    async def _first(self) -> list[T]:
        source = await self._readable()
        return await self._page(source, source.after, self._filters.get("limit"))

    async def _readable(self) -> Source[T]:
        """Return where the rows come from, at the least cost."""
        source = self._source()
        for alternative in source.alternatives:
            if await alternative.is_readable():
                return replace(source, **alternative.fields())
        return source

    async def _page(self, source: Source[T], after: Any, limit: int | None, offset: int | None = None) -> list[T]:
        rows = source.rows.subquery("r")
        if source.top is not None and limit is not None and after is None and not self._filters.get("sort"):
            rows = source.top(limit + (offset or 0)).subquery("r")
        order = self._order(source, rows)
        columns, filled = source.columns, self._filled(source)
        if limit is None or limit > _MOST_KEYS or not source.key:
            statement = page(rows, columns, order, after, limit, filled).offset(offset)
        elif source.selected is not None and _has(source.selected, order):
            # Two statements, because neither engine looks up the groups of a view that is joined.
            selected = page(source.selected.subquery("s"), source.key, order, after, limit, filled).offset(offset)
            keys = [row[0] for row in await self._select(selected)]
            rows = rows if source.whole is None else source.whole.subquery("r")
            statement = page(rows, columns, order, None, None).where(rows.c[source.key[0]].in_(keys))
        else:
            found = page(rows, source.key, order, after, limit, filled).offset(offset).subquery("f")
            whole = source.rows.subquery("w")
            same = sa.and_(*(found.c[name] == whole.c[name] for name in source.key))
            statement = sa.select(*(whole.c[name] for name in columns)).select_from(found.join(whole, same))
            statement = statement.order_by(*ordered(whole, order))
        return typed(source.row_type, await self._select(statement))

    def _order(self, source: Source[T], rows: sa.FromClause) -> list[str]:
        """Return the columns to order by: numbers and times descending, texts ascending."""
        if (by := self._filters.get("sort")) is None:
            return list(source.order)
        sortable = [name for name in source.columns if name != "labels"]
        if not isinstance(by, str) or by.removeprefix("-") not in sortable:
            raise InvalidArgumentError("sort", by, f"one of {', '.join(sortable)}")
        is_reversed, by = by.startswith("-"), by.removeprefix("-")
        falls = isinstance(rows.c[by].type, sa.String) == is_reversed
        first = [f"-{by}" if falls else by]
        if list(source.order[:2]) == ["-day", f"-{by}"]:
            # By the indexed day as well, which is in the same order.
            first = ["-day" if falls else "day", *first]
        names = {name.lstrip("-") for name in first}
        return [*first, *(name for name in source.order if name.lstrip("-") not in names)]

    def _filled(self, source: Source[T]) -> set[str]:
        """Return the columns of the order that have no NULL: those of a period, which a condition compares."""
        in_period = source.order[:2] if source.order[0] == "-day" and self._filters.get("since") is not None else ()
        return {*source.filled, *(name.lstrip("-") for name in in_period)}

    async def _select(self, statement: sa.Select[Any]) -> Sequence[AnyRow]:
        return await self._query(statement, user_id=user_of(self._filters))


def _has(selected: sa.Select[Any], order: Sequence[str]) -> bool:
    """Return whether a SELECT has the columns of an order."""
    return {name.lstrip("-") for name in order} <= set(selected.selected_columns.keys())


def total(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return the sum of a column, of the same type on every engine."""
    if isinstance(column.type, sa.Double):
        return rounded(sa.func.sum(column))
    # Postgres would return a Decimal.
    return sa.cast(sa.func.sum(column), sa.BigInteger)
