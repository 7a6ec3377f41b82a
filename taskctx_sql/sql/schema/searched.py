"""The searched text of an update in SQL, as `model.search` has it in Python, and the condition for words in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from taskctx_sql.model.search import Words


def searched_text(engine: str, data: str) -> str:
    """Return the SQL of the searched text of JSON text, which is given as SQL.

    The escapes of backslashes wait as a control character, which JSON text never has, until the others are replaced.
    """
    char, find = ("char", "instr") if engine == "sqlite" else ("chr", "strpos")
    backslash, waiting = f"{char}(92)", f"{char}(1)"
    text = f"replace({data}, {backslash} || {backslash}, {waiting})"
    for escaped, code in (("'\"'", 34), ("'n'", 10), ("'r'", 13), ("'t'", 9)):
        text = f"replace({text}, {backslash} || {escaped}, {char}({code}))"
    text = f"replace({text}, {waiting}, {backslash})"
    return f"CASE WHEN {find}({data}, {backslash}) = 0 THEN {data} ELSE {text} END"


def lower_ascii(engine: str, text: str) -> str:
    """Return the SQL of a text with its ASCII letters in lower case."""
    return f"lower({text})" if engine == "sqlite" else f'lower(({text}) COLLATE "C")'


def has_words(data: sa.ColumnElement[str], words: Words) -> Iterator[sa.ColumnElement[bool]]:
    """Yield the condition for each of the words, in JSON text."""
    text = _Searched(data) if words.case_sensitive else _SearchedLower(data)
    for forms in words.forms:
        yield sa.or_(*(has_text(text, sa.literal(form, sa.Text)) for form in forms))


# Elements of functions, whose statements SQLAlchemy compiles only once.


class has_text(FunctionElement[bool]):  # noqa: N801  # it is used like a function
    """Whether a text contains another, exactly."""

    inherit_cache: bool = True
    type: sa.Boolean = sa.Boolean()


class _Searched(FunctionElement[str]):
    """The searched text of JSON text."""

    inherit_cache: bool = True
    type: sa.Text = sa.Text()


class _SearchedLower(FunctionElement[str]):
    """The same, with its ASCII letters in lower case."""

    inherit_cache: bool = True
    type: sa.Text = sa.Text()


@compiles(has_text, "sqlite")
def _has_text_on_sqlite(element: has_text, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(sa.func.instr(*element.clauses) > 0, **options)


@compiles(has_text, "postgresql")
def _has_text_on_postgres(element: has_text, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(sa.func.strpos(*element.clauses) > 0, **options)


@compiles(_Searched)
def _searched(element: FunctionElement[str], compiler: SQLCompiler, **options: Any) -> str:
    return f"({searched_text(compiler.dialect.name, compiler.process(element.clauses, **options))})"


@compiles(_SearchedLower)
def _searched_lower(element: _SearchedLower, compiler: SQLCompiler, **options: Any) -> str:
    return lower_ascii(compiler.dialect.name, _searched(element, compiler, **options))
