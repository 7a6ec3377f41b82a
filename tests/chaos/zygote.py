"""Writer processes within milliseconds: one process imports everything once, and forks a writer whenever it is asked.

``python -m tests.chaos.zygote`` is that process; it reads a command a line and answers each with a line. It forks
before it ever has a thread, and ends its writers when whoever started it is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType

import taskctx_sql
from tests.chaos.writer import Job, work

PROJECT = Path(__file__).parents[2]
# Everything that a writer would import at its first save.
PRELOADED = (
    *("aiosqlite", "asyncpg", "psycopg", "alembic.operations", "alembic.script"),
    *("sqlalchemy.dialects.sqlite.aiosqlite", "sqlalchemy.dialects.postgresql.psycopg"),
)


class Zygote:
    """The process that forks writers."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=PROJECT,
            env={**os.environ, **(environment or {})},
            text=True,
        )
        self._ask("hello")

    def __enter__(self) -> Zygote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.communicate()

    def start(self, job: Job) -> int:
        """Fork a writer, and return its process id."""
        return int(self._ask(f"start {json.dumps(asdict(job))}"))

    def kill(self, *writers: int) -> None:
        """Kill writers as ``kill -9`` does, all at once, and wait until they are gone."""
        for writer in writers:
            # One that ended by itself is kept for whoever waits for it, so its number belongs to nobody else.
            os.kill(writer, signal.SIGKILL)
        for writer in writers:
            self._ask(f"wait {writer}")

    async def wait(self, *writers: int, patience: float) -> list[int]:
        """Wait until writers ended by themselves, and return their exit codes; kill those that take longer."""
        codes = []
        until = time.monotonic() + patience
        for writer in writers:
            while (code := int(self._ask(f"poll {writer}"))) == _RUNNING:
                if time.monotonic() > until:
                    os.kill(writer, signal.SIGKILL)
                await asyncio.sleep(0.02)
            codes.append(code)
        return codes

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process that forks writers ended, with {self._process.wait()}")
        return answer.strip()


_RUNNING = 1000


def _serve() -> None:
    # Outages are what happens here all the time.
    logging.getLogger("taskctx_sql").setLevel(logging.CRITICAL)
    for name in PRELOADED:
        importlib.import_module(name)
    # It comes when it is asked for.
    getattr(taskctx_sql, "SqlStore")  # noqa: B009
    running: set[int] = set()
    for line in iter(sys.stdin.readline, ""):
        command, _, rest = line.strip().partition(" ")
        if command == "start":
            answer = _fork(Job.of(json.loads(rest)))
            running.add(answer)
        elif command == "wait":
            answer = _exit_code(os.waitpid(int(rest), 0)[1])
            running.discard(int(rest))
        elif command == "poll":
            ended, status = os.waitpid(int(rest), os.WNOHANG)
            answer = _exit_code(status) if ended else _RUNNING
            running.discard(ended)
        else:
            answer = 0
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()
    for writer in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(writer, signal.SIGKILL)
            os.waitpid(writer, 0)


def _exit_code(status: int) -> int:
    return os.waitstatus_to_exitcode(status)


def _fork(job: Job) -> int:
    writer = os.fork()
    if writer:
        return writer
    code = 1
    try:
        asyncio.run(work(job))
        code = 0
    finally:
        # The error is in the journal.
        os._exit(code)


if __name__ == "__main__":
    _serve()
