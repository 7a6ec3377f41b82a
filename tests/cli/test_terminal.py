"""What is different on a real terminal: colors, and the width of the lines."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import termios
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from taskctx_sql import task_context
from tests.support.programs import Programs

STYLE = re.compile(r"\x1b\[[0-9;]*m")
COMMAND = "import runpy; runpy.run_module('taskctx_sql', run_name='__main__', alter_sys=True)"


def printed(programs: Programs, columns: int, *arguments: str, **environment: str) -> str:
    """What a command prints, if its standard output and error are a terminal of so many columns."""
    ours, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    inherited["TERM"] = "xterm-256color"
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(read, ours)
        programs.run(COMMAND, *arguments, environment={**inherited, **environment}, terminal=os.ttyname(its))
        os.close(its)
        shown = reading.result()
    os.close(ours)
    return shown.decode()


def read(terminal: int) -> bytes:
    """What is printed to it, until nobody has it open any more."""
    shown = b""
    # Then reading fails.
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 65536):
            shown += part
    return shown


@pytest.mark.wide
def test_a_terminal_gets_colors_and_lines_that_fit(tmp_path: Path, programs: Programs) -> None:
    address = f"sqlite:///{tmp_path}/x.db"
    for number in range(2):
        data = {"user_id": f"user-{number}", "chat_id": f"chat-{'x' * 60}-{number}"}
        with contextlib.suppress(KeyError), task_context(data, database_url=address) as context:
            context.add_context_update("message", "step " * 30)
            raise KeyError("made for this test")
    for words in (["list"], ["report", "runs"], ["log", "user-0", f"chat-{'x' * 60}-0"]):
        for columns in (80, 60):
            shown = printed(programs, columns, *words, "-d", address)
            assert STYLE.search(shown)
            assert max(map(len, STYLE.sub("", shown).splitlines())) <= columns
    assert "\x1b[31mfailed\x1b[0m" in printed(programs, 80, "report", "runs", "-d", address)
    error = ["show", "nobody", "c", "-d", address]
    assert "\x1b[31m\x1b[1mError: \x1b[0mthere is no context" in printed(programs, 80, *error)
    for plainly in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b" not in printed(programs, 80, "list", "-d", address, **plainly)
    assert "\x1b" not in printed(programs, 80, *error, "--color", "never") + printed(programs, 80, *error, NO_COLOR="1")
