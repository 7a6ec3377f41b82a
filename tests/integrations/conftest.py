"""Leaves out the tests of integrations whose frameworks are not installed; the header of a run names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integrations.frameworks import REQUIRED, missing, written

_ABSENT = missing()
collect_ignore_glob = [pattern for name in _ABSENT for pattern in (name, f"test_{name}.py", f"test_{name}_*.py")]
if {"a2a", "claude_agent_sdk", "langgraph", "openai_agents", "pydantic_ai"} & set(_ABSENT):
    # It has what all of these write.
    collect_ignore_glob.append("test_one_record.py")
if len(_ABSENT) == len(written()):
    # There is no page whose code could run.
    collect_ignore_glob.append("test_pages.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one run have the wide tests and those of the integrations, where these are required."""
    if REQUIRED == "1":
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker("wide")
