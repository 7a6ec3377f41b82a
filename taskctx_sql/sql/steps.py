"""Work in steps: what is done is described without doing it.

A piece of work is a generator: it yields statements, and is sent their rows. So there is one description of it,
whoever carries it out: SQLAlchemy's asynchronous connection, or SQLite's own driver, in one go on a thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.compiler import SQLCompiler

T = TypeVar("T")

Statement = sa.UpdateBase | sa.Select[*tuple[Any, ...]]

_SQLITE: Final = sqlite.dialect()


@dataclass(frozen=True, slots=True)
class Step:
    """A statement with its parameters: a mapping, or a list of them to do it for each. ``reads`` says it has rows.

    A statement is made once and kept, since making and compiling it costs more than running it.
    """

    statement: Statement
    parameters: Mapping[str, Any] | list[dict[str, Any]]
    reads: bool = False


# Sent back are the rows, or None for a statement that has none.
Steps = Generator[Step, Sequence[Any] | None, T]


async def carry_out(steps: Steps[T], connection: AsyncConnection) -> T:
    """Do the work on an SQLAlchemy connection."""
    found: Sequence[Any] | None = None
    while True:
        try:
            step = steps.send(found)
        except StopIteration as end:
            result: T = end.value
            return result
        answer = await connection.execute(step.statement, step.parameters)
        found = answer.all() if step.reads else None


def carry_out_on_sqlite(steps: Steps[T], connection: sqlite3.Connection) -> T:
    """Do the work on a connection of SQLite's driver, on the calling thread."""
    found: Sequence[Any] | None = None
    while True:
        try:
            step = steps.send(found)
        except StopIteration as end:
            result: T = end.value
            return result
        text, names, constants = _compiled(step.statement)
        if isinstance(step.parameters, list):
            connection.executemany(text, [[row[name] for name in names] for row in step.parameters])
            found = None
        else:
            values = {**constants, **step.parameters}
            cursor = connection.execute(text, [values[name] for name in names])
            found = cursor.fetchall() if step.reads else None


@cache
def insertion(table: sa.Table) -> sa.Insert:
    """Return the INSERT of whole rows, which takes a parameter for each column."""
    return sa.insert(table)


@cache
def _compiled(statement: Statement) -> tuple[str, list[str], dict[str, Any]]:
    """Return a statement's text, the names of its parameters in order, and those that have a value already."""
    compiled = statement.compile(dialect=_SQLITE)
    assert isinstance(compiled, SQLCompiler)
    return str(compiled), list(compiled.positiontup or ()), dict(compiled.params)


def number(name: str) -> sa.BindParameter[int]:
    """Return a parameter for a BIGINT."""
    return sa.bindparam(name, type_=sa.BigInteger)


def text(name: str) -> sa.BindParameter[str]:
    """Return a parameter for a TEXT."""
    return sa.bindparam(name, type_=sa.Text)
