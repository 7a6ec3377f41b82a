"""SQL that differs between the engines. ``engine`` is a dialect's name: "sqlite" or "postgresql"."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import asyncpg, psycopg
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

# By driver: dialects whose parameters are in the order of the statement.
_DIALECTS: Final[dict[str, sa.Dialect]] = {
    "sqlite": sqlite.dialect(),
    "asyncpg": asyncpg.dialect(),  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
    "psycopg": psycopg.dialect(paramstyle="format"),  # type: ignore[no-untyped-call]  # the same
}


def driver_dialect(driver: str) -> sa.Dialect:
    """Return the dialect that compiles statements for a driver: "sqlite", "asyncpg" or "psycopg"."""
    return _DIALECTS[driver]


def as_utf8(engine: str, text: sa.ColumnElement[str]) -> sa.ColumnElement[bytes]:
    """Return a text as bytes, in UTF-8."""
    return sa.cast(text, sa.LargeBinary) if engine == "sqlite" else sa.func.convert_to(text, "UTF8")


def is_in_list(engine: str, column: sa.Column[Any], name: str) -> sa.ColumnElement[bool]:
    """Return whether a column is among the values of one parameter, however many; see `list_value`."""
    if engine == "sqlite":
        each = sa.func.json_each(sa.bindparam(name, type_=sa.Text)).table_valued("value")
        return column.in_(sa.select(each.c.value))
    return column == sa.any_(sa.bindparam(name, type_=postgresql.ARRAY(column.type)))


def list_value(engine: str, values: Sequence[Any]) -> Any:
    """Return a list as the value of a parameter of `is_in_list`."""
    return json.dumps(list(values)) if engine == "sqlite" else list(values)


# Exactly as in the index on it, which a migration creates; otherwise the index is not used.
_GROUP_OF_UPDATE: Final = {
    "sqlite": "CASE WHEN instr({0}, '\"group\"') > 0 THEN CAST(json_extract({0}, '$.group') AS TEXT) END",
    "postgresql": "CASE WHEN strpos({0}, '\"group\"') > 0 THEN md5(CAST({0} AS jsonb) ->> 'group') END",
}


def group_of_update(engine: str, alias: str = "") -> sa.ColumnElement[str | None]:
    """Return a text that identifies the group in an update's metadata; NULL if the update has none."""
    metadata = f"{alias}.metadata" if alias else "metadata"
    return sa.literal_column(_GROUP_OF_UPDATE[engine].format(metadata), sa.Text)


def lower_ascii(text: str) -> str:
    """Return a text with its ASCII letters in lower case, as ``lower`` of SQLite makes it."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in text)


class contains(sa.ColumnElement[bool]):  # noqa: N801  # it is used like a function
    """Whether a text contains another. The case of ASCII letters can be ignored; that of other letters counts."""

    inherit_cache: bool = False
    type: sa.Boolean = sa.Boolean()

    def __init__(self, text: sa.ColumnElement[str], part: str | sa.ColumnElement[str], *, case_sensitive: bool) -> None:
        """Take the text and the part to look for; a parameter for it has its value from `lower_ascii`."""
        if isinstance(part, str):
            part = sa.literal(part if case_sensitive else lower_ascii(part), sa.Text)
        self.text: sa.ColumnElement[str] = text
        self.part: sa.ColumnElement[str] = part
        self.case_sensitive: bool = case_sensitive


@compiles(contains, "sqlite")
def _contains_on_sqlite(element: contains, compiler: SQLCompiler, **options: Any) -> str:
    text = element.text if element.case_sensitive else sa.func.lower(element.text)
    return compiler.process(sa.func.instr(text, element.part) > 0, **options)


@compiles(contains, "postgresql")
def _contains_on_postgres(element: contains, compiler: SQLCompiler, **options: Any) -> str:
    # In this collation lower() changes ASCII letters only, as SQLite's does.
    text = element.text if element.case_sensitive else sa.func.lower(element.text.collate("C"))
    return compiler.process(sa.func.strpos(text, element.part) > 0, **options)


class only_compared(FunctionElement[str]):  # noqa: N801  # it is used like a function
    """A column of text by which SQLite is not to look up rows: it reads them in the order of an index, and compares.

    Postgres decides by its statistics, which SQLite has none of.
    """

    inherit_cache: bool | None = True
    type: sa.types.TypeEngine[str] = sa.Text()


@compiles(only_compared)
def _only_compared(element: only_compared, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


@compiles(only_compared, "sqlite")
def _only_compared_on_sqlite(element: only_compared, compiler: SQLCompiler, **options: Any) -> str:
    return f"+{compiler.process(element.clauses, **options)}"


_STRING_OF_JSON: Final = {"sqlite": "json_extract({0}, '$')", "postgresql": "CAST({0} AS json) #>> '{{}}'"}


def string_of_json(engine: str, column: sa.Column[str]) -> sa.ColumnElement[str]:
    """Return the string that JSON text stands for."""
    return sa.literal_column(_STRING_OF_JSON[engine].format(f"{column.table.name}.{column.name}"), sa.Text)


def json_object(engine: str, name: sa.ColumnElement[str], value: sa.ColumnElement[str]) -> sa.ColumnElement[str | None]:
    """Return the aggregate of names and values, which are JSON text, as JSON text; NULL or empty if there are none."""
    if engine == "sqlite":
        return sa.func.json_group_object(name, sa.func.json(value))
    # The cast is to text, because drivers would decode it.
    return sa.cast(sa.func.json_object_agg(name, sa.cast(value, postgresql.JSON)), sa.Text)


def json_object_of_texts(
    engine: str, name: sa.ColumnElement[str], value: sa.ColumnElement[str]
) -> sa.ColumnElement[str | None]:
    """Return the aggregate of names and values as JSON text, where each value is a string, whatever is in it."""
    if engine == "sqlite":
        return sa.func.json_group_object(name, value)
    return sa.cast(sa.func.json_object_agg(name, value), sa.Text)


def insert(engine: str, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    """Return an INSERT that has the engine's ON CONFLICT."""
    return sqlite.insert(table) if engine == "sqlite" else postgresql.insert(table)
