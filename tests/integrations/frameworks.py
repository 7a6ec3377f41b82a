"""The integrations, what each needs, and whether that is installed."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Final

import taskctx_sql

# What an integration imports, by its name. The first is the framework itself.
PACKAGES: Final = {
    "a2a": "a2a",
    "adk": "google.adk",
    "aiecs": "aiecs",
    "claude_agent_sdk": "claude_agent_sdk",
    "langgraph": "langgraph.checkpoint",
    "openai_agents": "agents",
    # OpenTelemetry itself is there for the telemetry of stores; this is what the tests and the page instrument by.
    "otel": "openinference.instrumentation.openai",
    "pydantic_ai": "pydantic_ai",
}
# These need an environment of their own, because of what they pin.
APART: Final = ("aiecs",)
# Names of integrations, or 1 for all that fit into one environment: a missing one of these is an error.
REQUIRED: Final = os.environ.get("TASKCTX_TEST_INTEGRATIONS", "")

_FOLDER: Final = Path(taskctx_sql.__file__).parent / "integrations"


def written() -> list[str]:
    """The integrations that the package has."""
    return [name for name in PACKAGES if (_FOLDER / f"{name}.py").exists() or (_FOLDER / name).is_dir()]


def is_installed(name: str) -> bool:
    """Whether an integration's framework is installed."""
    try:
        return importlib.util.find_spec(PACKAGES[name]) is not None
    except ModuleNotFoundError:
        return False


def missing() -> list[str]:
    """The integrations whose frameworks are not installed.

    Raises:
        RuntimeError: One of them is required.
    """
    absent = [name for name in written() if not is_installed(name)]
    required = [name for name in written() if name not in APART] if REQUIRED == "1" else REQUIRED.split(",")
    needed = sorted(set(absent) & set(required))
    if needed:
        raise RuntimeError(f"TASKCTX_TEST_INTEGRATIONS requires {', '.join(needed)}: pip install '.[integrations]'")
    return absent
