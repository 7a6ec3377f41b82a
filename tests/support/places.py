"""Every place in the package where a statement is made."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import taskctx_sql

PACKAGE = Path(taskctx_sql.__file__).parent

# Functions whose statements a Citus never sees.
ELSEWHERE = {
    # What a save does to a Postgres is in functions of the database, which call each other on one machine.
    "appends.py": "it saves to SQLite",
    "decide.py": "it saves to SQLite",
    "batch.py": "it saves to SQLite",
    "copies.py": "it saves to SQLite",
    "restore.py": "it saves to SQLite",
    "restore_rows.py": "it saves to SQLite",
    "restore_versions.py": "it saves to SQLite",
    "state.py:_sorted_by_rowid": "it reads from SQLite",
    "clauses.py:is_readable": "one form is SQLite's",
    "sql.py:is_in_list": "SQLite reads a list of parameters as a table",
    "printing.py": "it prints the SQL of an upgrade, and executes none",
    "sql/schema/functions/__init__.py": "it creates functions, which have no rows",
    "small_contexts.py": "contexts that are on several machines do not share a transaction",
    "several.py": "contexts that are on several machines do not share a transaction",
    "throwaway.py": "databases for tests are on one server",
    "aiecs_tables.py": "it reads the tables of another package",
    "row_security.py": "row-level security is refused where there is a Citus",
    **dict.fromkeys(
        ("search_index.py", "search_portion.py", "search_checks.py", "indexed.py", "search.py:count"),
        "a search index has triggers, which a distributed table cannot have",
    ),
    **dict.fromkeys(
        (
            *("daily_sums.py", "folding.py", "usage_parts.py", "summed.py", "sums_checks.py"),
            *("costs.py:_select_summed", "costs.py:select_models_summed", "costs.py:_select_speed_summed"),
            *("calls.py:select_tools_summed", "stored.py:select_activity_summed", "stored.py:select_users_summed"),
            *("course.py:select_models_summed", "trees.py:_select_uses_summed"),
        ),
        "daily sums have triggers, which a distributed table cannot have",
    ),
    "migrations.py:take_upgrade_lock": "there an upgrade takes the lock that is no table's",
    "migrations.py:changing": "a schema of choice is made as it is elsewhere, and has no rows",
}


@dataclass(frozen=True)
class Place:
    """Where the code makes a statement: by SQLAlchemy's functions, or as a text that begins like this."""

    path: str
    function: str
    line: int
    text: str = ""

    @property
    def file(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def is_elsewhere(self) -> bool:
        return not {self.path, self.file, f"{self.file}:{self.function}"}.isdisjoint(ELSEWHERE)

    def __str__(self) -> str:
        return f"{self.path}:{self.line} in {self.function or 'the module'}" + (f": {self.text}" if self.text else "")


def places() -> Iterator[Place]:
    """Every place in the package where a statement is made."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if "migrations" not in path.parts:
            yield from _places(path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text()), "")


def _places(path: str, node: ast.AST, function: str) -> Iterator[Place]:
    inside = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call) and ast.unparse(child.func) in MAKERS:
            yield Place(path, inside, child.lineno)
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            # A docstring.
            continue
        if isinstance(child, ast.expr) and (text := _sql_of(child)) is not None:
            yield Place(path, inside, child.lineno, text)
        elif not isinstance(child, ast.JoinedStr):
            yield from _places(path, child, inside)


MAKERS = ("sa.select", "sa.insert", "sa.update", "sa.delete", "engines.insert")

VERBS = ("SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH ", "SHOW ", "SET ", "LOCK ", "CREATE ", "DROP ", "ALTER ")


def _sql_of(node: ast.expr) -> str | None:
    """The beginning of a text in SQL, up to what is put into it."""
    if isinstance(node, ast.JoinedStr) and node.values and isinstance(node.values[0], ast.Constant):
        node = node.values[0]
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return None
    text = " ".join(node.value.split("'")[0].split(":")[0].split()) + " "
    return text.rstrip() if text.startswith(VERBS) else None
