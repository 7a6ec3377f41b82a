"""The help of the program and of each command, and the completion of a shell."""

from __future__ import annotations

import re

import click
import pytest
from click.shell_completion import ShellComplete

from taskctx_sql.cli import main
from taskctx_sql.cli.program import SECTIONS
from taskctx_sql.cli.report_columns import REPORTS
from tests.support.command import taskctx
from tests.support.command_lines import in_backticks, refused


def help_of(name: str, columns: int) -> str:
    done = taskctx(*([name] if name else []), "--help", COLUMNS=str(columns))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("columns", [80, 60])
@pytest.mark.parametrize("name", ["", *main.commands])
def test_a_help_fits_its_terminal(name: str, columns: int) -> None:
    text = help_of(name, columns)
    assert max(map(len, text.splitlines())) <= columns
    assert "..." not in text.replace("COMMAND [ARGS]...", "")
    # A usage line is broken between its parts only.
    usage = text.split("\n\n")[0].removeprefix("Usage: ").split()
    shown = f"taskctx {name}".strip().split()
    assert usage[: len(shown)] == shown
    assert all(re.fullmatch(r"\[?[A-Z_]+\]?(\.\.\.)?", word) for word in usage[len(shown) :])


@pytest.mark.parametrize("name", ["", *main.commands])
def test_a_help_has_examples_that_can_be_pasted(name: str) -> None:
    text = help_of(name, 80)
    examples = re.findall(rf"^  (taskctx {name}.*)$", text, re.MULTILINE)
    assert examples
    assert [why for line in examples if (why := refused(line, whole=True))] == []
    assert [why for line in in_backticks(text.replace("COMMAND", "list")) if (why := refused(line, whole=False))] == []


def test_every_command_is_in_one_section_with_a_summary_of_one_line() -> None:
    listed = [command.name for commands in SECTIONS.values() for command in commands]
    assert sorted(map(str, listed)) == sorted(main.commands)
    lines = help_of("", 80).splitlines()
    for title in SECTIONS:
        assert f"{title}:" in lines
    for name, command in main.commands.items():
        assert f"  {name:8}  {command.get_short_help_str(limit=1000)}" in lines


@pytest.mark.parametrize("name", main.commands)
def test_every_command_takes_the_options_of_all(name: str) -> None:
    options = {option for parameter in main.commands[name].params for option in parameter.opts}
    assert {"--quiet", "--color", "--traceback", "--schema"} <= options
    # A server prints no result.
    assert ({"--json", "--format"} <= options) == (name not in ("mcp", "ui"))
    # A copy names both of its stores.
    assert ("--database-url" in options) == (name != "copy")
    arguments = [parameter.name for parameter in main.commands[name].params if isinstance(parameter, click.Argument)]
    if "chat" in arguments:
        assert arguments[arguments.index("chat") - 1] == "user"


@pytest.mark.parametrize(
    ("words", "beginning", "expected"),
    [([], "re", {"report", "restore"}), (["report"], "", set(REPORTS)),
     (["list"], "--da", {"--database-url"})],
)  # fmt: skip
def test_a_shell_completes_commands_reports_and_options(words: list[str], beginning: str, expected: set[str]) -> None:
    complete = ShellComplete(main, {}, "taskctx", "_TASKCTX_COMPLETE")
    found = {item.value for item in complete.get_completions(words, beginning)}
    assert found == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_completion(shell: str) -> None:
    done = taskctx(_TASKCTX_COMPLETE=f"{shell}_source")
    assert "_TASKCTX_COMPLETE" in done.stdout
