"""How long a fresh interpreter takes to import the package, beside one that imports nothing of it."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass

from tests.benchmarks.figures import OURS
from tests.benchmarks.measuring import Workload


@dataclass(frozen=True)
class Interpreter:
    """A side that runs so much code, and ends."""

    name: str
    code: str

    def let_go(self) -> None:
        """It holds nothing."""


NOTHING = "python -c pass"
STDLIB = "sqlite3, asyncio"

INTERPRETERS = [
    Interpreter(OURS, "import taskctx_sql"),
    Interpreter(NOTHING, "pass"),
    Interpreter(STDLIB, "import sqlite3, json, asyncio"),
]


async def _measure(interpreter: Interpreter) -> list[float]:
    return [_seconds(interpreter)]


def _seconds(interpreter: Interpreter) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", interpreter.code], check=True)
    return time.perf_counter() - started


# Not imports alone: what a program waits for is the start of its interpreter with them.
WORKLOADS = [Workload("start and import", "time", _measure, asked={NOTHING: {}, STDLIB: {}})]
