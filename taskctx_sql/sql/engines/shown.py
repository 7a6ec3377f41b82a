"""What the views show of columns, for statements that read the tables: days, times as text, and sizes."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

# Outside of the years 1 to 9999, which neither engine can format, it is NULL.
_IN_RANGE: Final = "CASE WHEN {0} >= -62135596800 AND {0} < 253402300800 THEN {1} END"


class day_of(FunctionElement[Any]):  # noqa: N801  # it is used like a function
    """The UTC day of a time, exactly as in the indexes by day, which a migration creates."""

    inherit_cache: bool | None = True
    type: sa.types.TypeEngine[Any] = sa.Date()


class utc_of(FunctionElement[str]):  # noqa: N801  # the same
    """A time as ISO 8601."""

    inherit_cache: bool | None = True
    type: sa.types.TypeEngine[str] = sa.Text()


class size_of(FunctionElement[int]):  # noqa: N801  # the same
    """The number of bytes of a text in UTF-8."""

    inherit_cache: bool | None = True
    type: sa.types.TypeEngine[int] = sa.BigInteger()


@compiles(day_of, "sqlite")
def _day_on_sqlite(element: day_of, compiler: SQLCompiler, **options: Any) -> str:
    return _in_range(element, compiler, "date(CAST({0} AS INTEGER), 'unixepoch')", options)


@compiles(day_of, "postgresql")
def _day_on_postgres(element: day_of, compiler: SQLCompiler, **options: Any) -> str:
    return _in_range(element, compiler, "DATE '1970-01-01' + CAST(floor(trunc({0}) / 86400) AS INTEGER)", options)


@compiles(utc_of, "sqlite")
def _utc_on_sqlite(element: utc_of, compiler: SQLCompiler, **options: Any) -> str:
    return _in_range(element, compiler, "strftime('%Y-%m-%dT%H:%M:%SZ', CAST({0} AS INTEGER), 'unixepoch')", options)


@compiles(utc_of, "postgresql")
def _utc_on_postgres(element: utc_of, compiler: SQLCompiler, **options: Any) -> str:
    shown = "to_char(to_timestamp(trunc({0})) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    return _in_range(element, compiler, shown, options)


@compiles(size_of, "sqlite")
def _size_on_sqlite(element: size_of, compiler: SQLCompiler, **options: Any) -> str:
    return f"length(CAST({compiler.process(element.clauses, **options)} AS BLOB))"


@compiles(size_of, "postgresql")
def _size_on_postgres(element: size_of, compiler: SQLCompiler, **options: Any) -> str:
    return f"octet_length({compiler.process(element.clauses, **options)})"


def _in_range(element: FunctionElement[Any], compiler: SQLCompiler, shown: str, options: dict[str, Any]) -> str:
    time = compiler.process(element.clauses, **options)
    return _IN_RANGE.format(time, shown.format(time))
