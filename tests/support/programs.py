"""Python programs within milliseconds: one process imports what they need once, and forks each of them.

``python -W error -m tests.support.programs`` is that process; it reads a request a line and answers with an exit code.
It never has a thread, so that a fork is safe. A program's folder, environment and streams are its own, it is
``__main__``, warnings are errors, and it ends as every interpreter does.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, TracebackType

PROJECT = Path(__file__).parents[2]
PRELOADED = (
    *("aiosqlite", "asyncpg", "alembic.operations", "alembic.script", "click", "rich.table"),
    *("sqlalchemy.ext.asyncio", "sqlalchemy.dialects.sqlite.aiosqlite", "sqlalchemy.dialects.postgresql.asyncpg"),
    *("taskctx_sql.sql", "taskctx_sql.maintenance", "taskctx_sql.reports", "taskctx_sql.transfer"),
)


class Programs:
    """The process that forks programs."""

    def __init__(self) -> None:
        command = [sys.executable, "-W", "error", "-m", __name__]
        # Pipes all three: of a stream that has a file, Python remembers that it has a position, as a terminal has not.
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd=PROJECT, text=True)

    def __enter__(self) -> Programs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.communicate()

    def run(
        self,
        code: str,
        *arguments: str,
        folder: Path | None = None,
        environment: Mapping[str, str] = os.environ,
        terminal: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, in the present folder unless another one is given.

        Args:
            code: The program.
            arguments: What ``sys.argv`` has after its first.
            folder: Where it runs.
            environment: Its variables; those of Python itself are read by an interpreter that starts, so not here.
            terminal: The device that its output and its errors go to, which are not returned then.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as streams:
            output, errors = Path(streams, "output"), Path(streams, "errors")
            request = {
                "code": code,
                "arguments": arguments,
                "folder": str(folder or Path.cwd()),
                "environment": dict(environment),
                "streams": [os.devnull, terminal or str(output), terminal or str(errors)],
            }
            self._process.stdin.write(f"{json.dumps(request)}\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
            if not answer:
                raise RuntimeError(f"the process that forks programs ended: {self._process.communicate()[1]}")
            said = ["", ""] if terminal else [output.read_text(), errors.read_text()]
            return subprocess.CompletedProcess(arguments, int(answer), *said)


def _serve() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()
    for line in iter(sys.stdin.readline, ""):
        program = os.fork()
        if not program:
            _become(**json.loads(line))
            break
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])}\n")
        sys.stdout.flush()


def _become(code: str, arguments: list[str], folder: str, environment: dict[str, str], streams: list[str]) -> None:
    """Run the program in this process, which it is from now on."""
    for number, path in enumerate(streams):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv, sys.path[0] = ["-", *arguments], ""
    sys.modules["__main__"] = main = ModuleType("__main__")
    exec(compile(code, "<stdin>", "exec"), main.__dict__)


if __name__ == "__main__":
    _serve()
