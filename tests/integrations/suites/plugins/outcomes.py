"""A pytest plugin that writes what came of each test to the file that ``TASKCTX_SUITE_OUTCOMES`` names.

Tests that match an expression of ``TASKCTX_SUITE_LEFT_OUT``, a list as JSON, are skipped.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

_FILE = Path(os.environ["TASKCTX_SUITE_OUTCOMES"])
_LEFT_OUT = [re.compile(pattern) for pattern in json.loads(os.environ.get("TASKCTX_SUITE_LEFT_OUT", "[]"))]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that would wait without end."""
    for item in items:
        if any(pattern.fullmatch(item.nodeid) for pattern in _LEFT_OUT):
            item.add_marker(pytest.mark.skip(reason="it would wait without end"))


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write a line for each test, and another one if what follows it fails: the last one counts."""
    if report.when == "call" or report.outcome != "passed":
        # An expected failure counts as what the suite says it is.
        outcome = "passed" if hasattr(report, "wasxfail") else report.outcome
        with _FILE.open("a") as file:
            file.write(json.dumps([report.nodeid, outcome]) + "\n")
