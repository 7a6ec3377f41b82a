"""The command ``taskctx``, as a person and as a program would use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from taskctx_sql.cli import main

COLUMNS = "100"


def taskctx(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it in this process, on a thread: a test may have an event loop, and an interpreter takes long to start."""
    words = [str(argument) for argument in arguments]
    runner = CliRunner(env={"COLUMNS": COLUMNS, **environment})
    # click has 80 of its own in tests; a program takes at most that for its help.
    width = min(80, int(environment.get("COLUMNS", COLUMNS) or 80))
    with ThreadPoolExecutor(1) as threads:
        more: dict[str, Any] = {"prog_name": "taskctx", "catch_exceptions": False, "terminal_width": width}
        done = threads.submit(lambda: runner.invoke(main, words, **more)).result()
    assert "this is a bug of taskctx" not in done.stderr, done.stderr
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)


def taskctx_process(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it as a program of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "taskctx_sql", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": COLUMNS, **environment},
    )


def parsed(*arguments: str | Path, **environment: str) -> Any:
    """What it prints with ``--json``."""
    done = taskctx(*arguments, "--json", **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
