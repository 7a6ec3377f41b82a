"""Work in steps: what is done is described without doing it.

A piece of work is a generator: it yields statements, and is sent their rows. So there is one description of it,
whoever carries it out: SQLAlchemy's asynchronous connection, SQLite's own driver in one go on a thread, or asyncpg.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.compiler import SQLCompiler

from taskctx_sql.sql import engines

if TYPE_CHECKING:
    import asyncpg

T = TypeVar("T")

# From so many rows on, COPY is faster than an INSERT for each.
WORTH_A_COPY: Final = 50
# A parameter must not have a column's name.
_NEW: Final = "new_"

Statement = sa.UpdateBase | sa.Select[*tuple[Any, ...]]


class Rows(NamedTuple):
    """The parameters of a statement that is done for each of many rows: their names, and the values in that order."""

    names: tuple[str, ...]
    values: Sequence[tuple[Any, ...]]
    # Where the statement inserts them, if that is all it does.
    into: sa.Table | None = None


class Step(NamedTuple):
    """A statement with its parameters. ``reads`` says it has rows.

    A statement is made once and kept, since making and compiling it costs more than running it.
    """

    statement: Statement
    parameters: Mapping[str, Any] | Rows
    reads: bool = False


# Sent back are the rows, or None for a statement that has none.
Plan = Generator[Step, Sequence[Any] | None, T]


async def execute(plan: Plan[T], connection: AsyncConnection) -> T:
    """Do the work on an SQLAlchemy connection."""
    found: Sequence[Any] | None = None
    while True:
        try:
            step = plan.send(found)
        except StopIteration as end:
            result: T = end.value
            return result
        if isinstance(step.parameters, Rows):
            names = step.parameters.names
            many = [dict(zip(names, row, strict=True)) for row in step.parameters.values]
            await connection.execute(step.statement, many)
            found = None
        else:
            answer = await connection.execute(step.statement, step.parameters)
            found = answer.all() if step.reads else None


def execute_on_sqlite(plan: Plan[T], connection: sqlite3.Connection) -> T:
    """Do the work on a connection of SQLite's driver, on the calling thread."""
    found: Sequence[Any] | None = None
    while True:
        try:
            step = plan.send(found)
        except StopIteration as end:
            result: T = end.value
            return result
        text = compiled("sqlite", step.statement)
        if isinstance(step.parameters, Rows):
            connection.executemany(text.sql, text.rows(step.parameters))
            found = None
        else:
            cursor = connection.execute(text.sql, text.values(step.parameters))
            found = cursor.fetchall() if step.reads else None


async def execute_on_asyncpg(plan: Plan[T], connection: asyncpg.Connection, *, copies: bool = True) -> T:
    """Do the work on a connection of asyncpg; COPY is for those alone who see all rows."""
    found: Sequence[Any] | None = None
    while True:
        try:
            step = plan.send(found)
        except StopIteration as end:
            result: T = end.value
            return result
        text = compiled("postgresql", step.statement)
        rows = step.parameters
        if isinstance(rows, Rows):
            if copies and rows.into is not None and len(rows.values) >= WORTH_A_COPY:
                names = [name.removeprefix(_NEW) for name in rows.names]
                await connection.copy_records_to_table(rows.into.name, records=rows.values, columns=names)
            else:
                await connection.executemany(text.sql, text.rows(rows))
            found = None
        else:
            found = await connection.fetch(text.sql, *text.values(rows))


class Compiled(NamedTuple):
    """A statement as a driver takes it: its text, the names of its parameters in order, and those that are given."""

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
        places = [rows.names.index(name) for name in self.names]
        return [tuple(row[place] for place in places) for row in rows.values]


@cache
def compiled(engine: str, statement: Statement) -> Compiled:
    """Return a statement as the engine's driver takes it."""
    found = statement.compile(dialect=engines.driver_dialect(engine))
    assert isinstance(found, SQLCompiler)
    constants = {name: value for name, value in found.params.items() if value is not None}
    return Compiled(str(found), tuple(found.positiontup or ()), constants)


@cache
def insertion(table: sa.Table, *without: str) -> sa.Insert:
    """Return the INSERT of whole rows, except columns that stay NULL; `columns` names its parameters."""
    return sa.insert(table).values(parameters(table, *without))


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
