"""Plans: work on the database, described without doing it.

A plan is a generator that yields statements and is sent their rows. So the same plan can be executed by SQLAlchemy's
asynchronous connection, by SQLite's own driver on a thread, and by a driver of Postgres.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from typing import Any, Final, NamedTuple, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.compiler import SQLCompiler

from taskctx_sql.sql import engines

T = TypeVar("T")

# From so many rows on, COPY is faster than an INSERT for each.
MIN_COPY_ROWS: Final = 50
# A parameter must not have a column's name.
_NEW: Final = "new_"

Statement = sa.UpdateBase | sa.Select[*tuple[Any, ...]]


class Rows(NamedTuple):
    """The parameters of a statement that is executed for many rows: their names, and the values in that order."""

    names: tuple[str, ...]
    values: Sequence[tuple[Any, ...]]
    # Where the statement inserts them, if that is all it does.
    into: sa.Table | None = None


class Step(NamedTuple):
    """A statement with its parameters, and whether it returns rows.

    A statement is built once and kept, since building and compiling it costs more than executing it.
    """

    statement: Statement
    parameters: Mapping[str, Any] | Rows
    reads: bool = False


class Write:
    """A statement that is executed for many rows, again and again, and the names of its parameters in their order."""

    def __init__(self, statement: Statement, names: tuple[str, ...]) -> None:
        self.statement: Statement = statement
        self.names: tuple[str, ...] = names

    @cached_property
    def on_sqlite(self) -> str:
        """The text for SQLite's driver, which takes the rows as they are."""
        text = compiled("sqlite", self.statement)
        assert text.names == self.names
        return text.sql


class WriteAll(NamedTuple):
    """Several writes in their order, and the rows for each; one that has no rows is left out."""

    writes: Sequence[Write]
    rows: Sequence[Sequence[tuple[Any, ...]]]

    def steps(self) -> Iterator[Step]:
        """Return a step for each write."""
        for write, rows in zip(self.writes, self.rows, strict=True):
            if rows:
                yield Step(write.statement, Rows(write.names, rows))


# What a plan is sent: the rows, or None for a statement that returns none.
Plan = Generator[Step | WriteAll, Sequence[Any] | None, T]


async def execute(plan: Plan[T], connection: AsyncConnection) -> T:
    """Execute a plan on an SQLAlchemy connection."""
    rows: Sequence[Any] | None = None
    while True:
        try:
            next_step = plan.send(rows)
        except StopIteration as end:
            return cast(T, end.value)
        for step in _steps(next_step):
            if isinstance(step.parameters, Rows):
                names = step.parameters.names
                many = [dict(zip(names, row, strict=True)) for row in step.parameters.values]
                await connection.execute(step.statement, many)
                rows = None
            else:
                result = await connection.execute(step.statement, step.parameters)
                rows = result.all() if step.reads else None


def execute_on_sqlite(plan: Plan[T], connection: sqlite3.Connection) -> T:
    """Execute a plan on a connection of SQLite's driver, on the calling thread."""
    rows: Sequence[Any] | None = None
    while True:
        try:
            step = plan.send(rows)
        except StopIteration as end:
            return cast(T, end.value)
        rows = None
        # No cursor is kept: in the traceback of an error, one whose statement failed would keep its lock.
        if isinstance(step, WriteAll):
            for write, new in zip(step.writes, step.rows, strict=True):
                if len(new) == 1:
                    # Takes the driver less than `executemany`.
                    connection.execute(write.on_sqlite, new[0])
                elif new:
                    connection.executemany(write.on_sqlite, new)
            continue
        text = compiled("sqlite", step.statement)
        if isinstance(step.parameters, Rows):
            connection.executemany(text.sql, text.rows(step.parameters))
        else:
            cursor = connection.execute(text.sql, text.values(step.parameters))
            if step.reads:
                rows = cursor.fetchall()


async def execute_on_driver(
    plan: Plan[T], driver: engines.Driver, schema: str | None = None, *, copies: bool = True
) -> T:
    """Execute a plan on a connection of a driver of Postgres; under row-level security Postgres refuses COPY."""
    rows: Sequence[Any] | None = None
    while True:
        try:
            next_step = plan.send(rows)
        except StopIteration as end:
            return cast(T, end.value)
        for step in _steps(next_step):
            text = compiled(driver.dialect.driver, step.statement, schema)
            new = step.parameters
            if isinstance(new, Rows):
                if copies and new.into is not None and len(new.values) >= MIN_COPY_ROWS:
                    names = [name.removeprefix(_NEW) for name in new.names]
                    await driver.copy(schema, new.into.name, names, new.values)
                else:
                    await driver.execute_many(text.sql, text.rows(new))
                rows = None
            else:
                rows = await driver.fetch(text.sql, text.values(new))


def _steps(step: Step | WriteAll) -> Iterable[Step]:
    return step.steps() if isinstance(step, WriteAll) else (step,)


def read_value(statement: Statement, parameters: Mapping[str, Any]) -> Plan[Any]:
    """Return the plan that reads a single value; None if there is no row."""
    rows = yield Step(statement, parameters, reads=True)
    return rows[0][0] if rows else None


class Compiled(NamedTuple):
    """A statement as a driver takes it: its text, the names of its parameters in order, and its constants."""

    sql: str
    names: tuple[str, ...]
    constants: Mapping[str, Any]

    def values(self, parameters: Mapping[str, Any]) -> list[Any]:
        """Return the parameters in the statement's order."""
        known = {**self.constants, **parameters} if self.constants else parameters
        return [known[name] for name in self.names]

    def rows(self, rows: Rows) -> Sequence[tuple[Any, ...]]:
        """Return the rows with their values in the statement's order."""
        if rows.names == self.names:
            return rows.values
        order = [rows.names.index(name) for name in self.names]
        return [tuple(row[at] for at in order) for row in rows.values]


@cache
def compiled(driver: str, statement: Statement, schema: str | None = None) -> Compiled:
    """Return a statement as a driver takes it, its tables in a schema of choice."""
    translated: dict[str, Any] = {}
    if schema is not None:
        translated = {"schema_translate_map": {None: schema}, "render_schema_translate": True}
    compiler = statement.compile(dialect=engines.driver_dialect(driver), **translated)
    assert isinstance(compiler, SQLCompiler)
    constants = {name: value for name, value in compiler.params.items() if value is not None}
    return Compiled(str(compiler), tuple(compiler.positiontup or ()), constants)


@cache
def insertion(table: sa.Table, *without: str) -> sa.Insert:
    """Return the INSERT of whole rows, except columns that stay NULL; `columns` names its parameters."""
    return sa.insert(table).values(parameters(table, *without))


@cache
def deletion(table: sa.Table) -> sa.Delete:
    """Return the DELETE of a context's rows."""
    return sa.delete(table).where(table.c.context_id == text("context"))


def parameters(table: sa.Table, *without: str) -> dict[str, sa.BindParameter[Any]]:
    """Return a parameter for each column."""
    kept = [column for column in table.c if column.name not in without]
    return {column.name: sa.bindparam(f"{_NEW}{column.name}", type_=column.type) for column in kept}


@cache
def columns(table: sa.Table, *without: str) -> tuple[str, ...]:
    """Return the names of the `parameters`, in the order of the columns."""
    return tuple(parameter.key for parameter in parameters(table, *without).values())


def number(name: str) -> sa.BindParameter[int]:
    """Return a parameter for a BIGINT."""
    return sa.bindparam(name, type_=sa.BigInteger)


def text(name: str) -> sa.BindParameter[str]:
    """Return a parameter for a TEXT."""
    return sa.bindparam(name, type_=sa.Text)


def opaque_text(name: str) -> sa.ColumnElement[str]:
    """Return a parameter for a TEXT that a partial index is about.

    SQLite would prepare the statement again for each value, to see whether the index can be used: 45 us.
    """
    return sa.cast(text(name), sa.Text)
