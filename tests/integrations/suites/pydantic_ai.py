"""Pydantic AI's tests that write messages and read them back."""

from __future__ import annotations

from typing import Final

from tests.integrations.suites.suite import Known, Suite

SUITE: Final = Suite(
    package="pydantic-ai-slim",
    repository="https://github.com/pydantic/pydantic-ai",
    tests=("tests/test_messages.py",),
    plugin="pydantic_ai_messages",
    requires=("dirty-equals", "inline-snapshot", "pytest-mock", "vcrpy"),
    # They run their own tasks with anyio.
    options=("-p", "no:asyncio", "-p", "no:cacheprovider"),
    has_baseline=True,
    known=(
        Known(
            r"tests/test_messages.py::test_tool_return_dict_unhashable_kind_stays_mapping\[.*bytearray\]",
            "has a bytearray in a tool's result, which is a text in Pydantic AI's own JSON, too",
        ),
    ),
)
