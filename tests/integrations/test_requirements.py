"""An integration whose framework is not installed says what to install."""

from __future__ import annotations

import subprocess
import sys

from tests.integrations.frameworks import PACKAGES, written

# Without the frameworks, whether they are installed or not.
CODE = """
import importlib, sys
from taskctx_sql.errors import MissingPackageError
sys.modules.update(dict.fromkeys({packages}.values()))
for name in {packages}:
    try:
        module = importlib.import_module(f"taskctx_sql.integrations.{{name}}")
        module.install()  # aiecs is imported when it is asked for
    except MissingPackageError as error:
        print(name, error)
"""


def test_each_names_its_package_and_its_extra() -> None:
    # The tests of OpenTelemetry need more than the integration does.
    packages = {name: PACKAGES[name] for name in written()} | {"otel": "opentelemetry.sdk"}
    done = subprocess.run([sys.executable, "-c", CODE.format(packages=packages)], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "a2a a2a-sdk is not installed: run `pip install 'taskctx_sql[a2a]'`",
        "adk google-adk is not installed: run `pip install 'taskctx_sql[adk]'`",
        "aiecs aiecs is not installed: run `pip install aiecs`",
        "claude_agent_sdk claude-agent-sdk is not installed: run `pip install 'taskctx_sql[claude-agent-sdk]'`",
        "langgraph langgraph is not installed: run `pip install 'taskctx_sql[langgraph]'`",
        "openai_agents openai-agents is not installed: run `pip install 'taskctx_sql[openai-agents]'`",
        "otel opentelemetry-sdk is not installed: run `pip install 'taskctx_sql[otel]'`",
        "pydantic_ai pydantic-ai-slim is not installed: run `pip install 'taskctx_sql[pydantic-ai]'`",
    ], done.stderr
