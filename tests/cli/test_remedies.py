"""What messages advise: commands that exist, with all that they need, as they can be pasted."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import taskctx_sql
from taskctx_sql.errors.remedies import shell_command
from taskctx_sql.model import CHECKS
from tests.support.command_lines import in_backticks, refused

PACKAGE = Path(taskctx_sql.__file__).parent
MODULES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}
# A word that any argument takes, where a message puts in a value.
VALUE = "1"


def texts(tree: ast.AST) -> Iterator[str]:
    """Every text in a module that is not a docstring, with a word for each value that is put in."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else VALUE for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (docstrings | inside):
            yield node.value


def calls(tree: ast.AST) -> Iterator[str]:
    """Every command that a module puts together."""
    for node in ast.walk(tree):
        name = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
        if isinstance(node, ast.Call) and name in ("shell_command", "hint"):
            words = [str(one.value) if isinstance(one, ast.Constant) else VALUE for one in node.args]
            given = {one.arg for one in node.keywords}
            store = ["-d", VALUE] if "database_url" in given else []
            store += ["--schema", VALUE] if "schema" in given else []
            if words != [VALUE]:
                yield " ".join(["taskctx", *words, *store])


def advised(path: Path) -> list[str]:
    """The commands that a module's messages advise."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [*(line for text in texts(tree) for line in in_backticks(text)), *calls(tree)]


def test_what_a_message_advises_is_a_whole_command() -> None:
    lines = [line for path in MODULES.values() for line in advised(path) if "COMMAND" not in line]
    assert [why for line in lines if (why := refused(line, whole=True))] == []
    assert len(lines) > 15


def test_every_check_of_a_store_can_be_ignored() -> None:
    named = set()
    for module in ("maintenance/examine.py", "sql/maintenance/checks.py"):
        for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Finding", "_ok_or_warning"):
                check = node.args[0]
                named |= {str(check.value)} if isinstance(check, ast.Constant) else set()
    assert named <= set(CHECKS)
    assert set(CHECKS) - named == {"fsync", "full_page_writes", "synchronous_commit", "self-test"}


def test_a_command_is_quoted_for_a_shell() -> None:
    assert shell_command("upgrade") == "`taskctx upgrade`"
    assert (
        shell_command("log", "a user", "$(rm)", database_url="sqlite:///my tasks.db", schema="it's")
        == "`taskctx log 'a user' '$(rm)' -d 'sqlite:///my tasks.db' --schema 'it'\"'\"'s'`"
    )
