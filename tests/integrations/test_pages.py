"""The pages of the integrations: their code runs, and their commands print what the page shows."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

from tests.integrations.frameworks import is_installed, written
from tests.support.command import taskctx
from tests.test_docs import BLOCK, DOCS

# What is another one in each run: dates, times, durations and long ids, also shortened ones.
CHANGING = re.compile(
    r"\d{4}-\d\d-\d\d|\d\d:\d\d(:\d\d)?|[\d.]+ m?s\b|\b\d+\.\d\d(?!\d)"
    r"|\b[0-9a-f]{8}[0-9a-f-]{8,}\b|\b[0-9a-f]+…[0-9a-f]+\b"
)


def pages() -> list[Any]:
    return [name for name in written() if is_installed(name)]


def comparable(text: str) -> list[str]:
    """The lines, without what changes and without how columns are lined up."""
    return [re.sub(r"\s+", " ", CHANGING.sub("…", line)).strip() for line in text.splitlines()]


@pytest.mark.parametrize("name", pages())
def test_the_code_of_a_page_runs_and_its_commands_print_what_it_shows(name: str) -> None:
    command, shown = "", []
    for language, code in BLOCK.findall((DOCS / "integrations" / f"{name}.md").read_text()):
        if language == "python":
            # A framework may warn of what is its own business.
            done = subprocess.run([sys.executable, "-"], input=code, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        elif language == "sh":
            command = next((line for line in reversed(code.splitlines()) if line.startswith("taskctx ")), "")
        elif language == "text" and command:
            words = command.split("#")[0].split()
            # As wide as a terminal that does not say.
            printed = taskctx(*words[1:], COLUMNS="80")
            assert comparable(printed.stdout) == comparable(code), printed.stderr
            shown.append(command)
    assert shown, "the page shows nothing that a command prints"
