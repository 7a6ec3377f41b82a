"""The functions that save in Postgres: their text as it is shipped, their creation, and whether a database has it.

Each is in a `.sql` file beside this one. The number at the end of a name is the version of the function: a released
one is never changed, since programs of several versions call it at the same time; a change is a new one beside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from taskctx_sql.sql import engines
from taskctx_sql.sql.schema import tables
from taskctx_sql.sql.schema.checks import qualified

_CREATE: Final = re.compile(
    r"CREATE FUNCTION (?P<name>taskctx_\w+_v(?P<version>\d+))\s*\((?P<arguments>[^()]*)\).*?"
    r"\$function\$(?P<body>.*?)\$function\$;",
    re.DOTALL,
)

_MODES: Final = ("IN", "INOUT")

# The functions that programs call; the others are called by these.
ENTRY_POINTS: Final = ("taskctx_save_v1", "taskctx_save_all_v1")

# The functions name tables without a schema, so their search path is fixed: whatever path a session has set, and
# whatever tables it has created, a function uses the library's. `pg_temp` is named because it would come first.
_SETTLE: Final = """\
DO $settle$
DECLARE
    home text := (SELECT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                  WHERE c.oid = to_regclass('{table}'));
BEGIN
    EXECUTE format('ALTER FUNCTION {signature} SET SCHEMA %I', home);
    EXECUTE format('ALTER FUNCTION %I.{signature} SET search_path = %I, pg_temp', home, home);
END
$settle$"""

# What replaces a function names it without a schema, and must not create another one, in the path's first schema.
_ENTER_HOME: Final = """\
SELECT set_config('taskctx.outer_path', current_setting('search_path'), true),
       set_config('search_path', quote_ident(nspname), true)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass('taskctx_contexts')"""
_LEAVE_HOME: Final = "SELECT set_config('search_path', current_setting('taskctx.outer_path'), true)"

# Of each function that is there: its text, and whether its search path and its rights are as they should be.
_LOOK: Final = sa.text("""
    SELECT signature, prosrc, prosecdef, has_function_privilege(p.oid, 'EXECUTE') AS may_execute,
           coalesce(proconfig, '{}') = ARRAY['search_path=' || quote_ident(nspname) || ', pg_temp'] AS is_settled
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN unnest(CAST(:signatures AS TEXT[])) signature
    JOIN pg_proc p ON p.oid = to_regprocedure(quote_ident(nspname) || '.' || signature)
    WHERE c.oid = to_regclass(:table)
""").bindparams(sa.bindparam("signatures", type_=sa.ARRAY(sa.Text)))


class Fault(Enum):
    """What is wrong with a function in a database."""

    MISSING = "is missing"
    CHANGED = "is not the one that this version of the library ships"
    SECURITY_DEFINER = "runs with the rights of its owner (SECURITY DEFINER)"
    SEARCH_PATH = "does not have its search_path fixed to the schema of the tables"
    DENIED = "may not be executed by this account"


@dataclass(frozen=True, slots=True)
class Function:
    """A function as it is shipped.

    Attributes:
        name: Its name, which ends in its version.
        version: The number at the end of the name.
        types: The types of its arguments, without those that are only for the result.
        statement: The statement that creates it.
        body: Its text, which Postgres keeps word for word.
    """

    name: str
    version: int
    types: tuple[str, ...]
    statement: str
    body: str

    @property
    def signature(self) -> str:
        """Its name and the types of its arguments, as SQL writes them."""
        return f"{self.name}({', '.join(self.types)})"


@cache
def shipped() -> tuple[Function, ...]:
    """Return all functions in the order of their creation: of the files by name, and as they are in each file."""
    paths = sorted(Path(__file__).parent.glob("*.sql"))
    return tuple(function for path in paths for function in parse(path.read_text(encoding="utf-8")))


def parse(text: str) -> Iterator[Function]:
    """Yield the functions of a file."""
    for found in _CREATE.finditer(text):
        arguments = [argument.split() for argument in found["arguments"].split(",") if argument.strip()]
        # Each is a mode, or none, a name and a type. Those for the result only are not part of the signature.
        types = tuple(" ".join(words[1 + (words[0] in _MODES) :]) for words in arguments if words[0] != "OUT")
        yield Function(found["name"], int(found["version"]), types, found[0].removesuffix(";"), found["body"])


def create(execute: Callable[[str], None], version: int) -> None:
    """Create the functions of a version, and fix their search path to the schema of the tables."""
    for function in shipped():
        if function.version == version:
            execute(function.statement)
            execute(_settle(function))


def replace(execute: Callable[[str], None], version: int) -> None:
    """Create the functions of a version anew, whether they are there or not. What is granted on them stays."""
    for statement in _replacements(function for function in shipped() if function.version == version):
        execute(statement)


def repairs(connection: sa.Connection, schema: str | None) -> Iterator[str]:
    """Yield what creates anew the functions that are missing or were changed. What is granted on them stays."""
    found = [function for function, fault in faults(connection, schema) if fault is not Fault.DENIED]
    if found:
        yield from _replacements(found)


def _replacements(functions: Iterable[Function]) -> Iterator[str]:
    yield _ENTER_HOME
    for function in functions:
        yield function.statement.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)
        yield _settle(function)
    yield _LEAVE_HOME


def _settle(function: Function) -> str:
    return _SETTLE.format(table=tables.contexts.name, signature=function.signature)


def drop(execute: Callable[[str], None], version: int) -> None:
    """Drop the functions of a version."""
    for function in reversed(shipped()):
        if function.version == version:
            execute(f"DROP FUNCTION IF EXISTS {function.signature}")


def faults(connection: sa.Connection, schema: str | None) -> Iterator[tuple[Function, Fault]]:
    """Yield what is wrong with the functions of a database at the newest revision, at most one fault of each."""
    if engines.is_sqlite(connection):
        return
    signatures = [function.signature for function in shipped()]
    names = {"table": qualified(connection, schema, tables.contexts.name), "signatures": signatures}
    rows = {row.signature: row for row in connection.execute(_LOOK, names)}
    for function in shipped():
        found = rows.get(function.signature)
        if found is None:
            yield function, Fault.MISSING
        elif found.prosrc != function.body:
            yield function, Fault.CHANGED
        elif found.prosecdef:
            yield function, Fault.SECURITY_DEFINER
        elif not found.is_settled:
            yield function, Fault.SEARCH_PATH
        elif not found.may_execute:
            yield function, Fault.DENIED
