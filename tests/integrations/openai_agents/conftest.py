"""Sessions over SQLite and Postgres, and agents whose models answer as they are told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from agents import Agent, function_tool, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call
from agents.usage import Usage
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails

from taskctx_sql import Store, open_store
from taskctx_sql.integrations.openai_agents import ContextSession

# Nothing goes to a network.
set_tracing_disabled(True)

USAGE = Usage(
    requests=1,
    input_tokens=100,
    output_tokens=30,
    total_tokens=130,
    input_tokens_details=InputTokensDetails.model_validate({"cached_tokens": 40, "cache_write_tokens": 7}),
    output_tokens_details=OutputTokensDetails(reasoning_tokens=5),
)


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[Store]:
    """A store of each engine in turn."""
    async with open_store(database_url, strict=True) as opened:
        yield opened


@pytest.fixture
def session_of(sql: Store, user: str) -> Callable[..., ContextSession]:
    """Makes sessions of one user, of the conversation "c1" unless another is named."""

    def make(session_id: str = "c1", **more: Any) -> ContextSession:
        return ContextSession(session_id, sql, user_id=user, **more)

    return make


@pytest.fixture
async def session(session_of: Callable[..., ContextSession]) -> AsyncIterator[ContextSession]:
    """A session of a conversation with nothing in it."""
    async with session_of() as made:
        yield made


@function_tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@function_tool
def fail() -> str:
    """Fail."""
    raise ValueError("made for this test")


def scripted(*steps: Any, name: str = "helper", **more: Any) -> Agent[Any]:
    """An agent whose model takes these steps: texts, calls of tools as (name, arguments, id), or errors."""
    made = [
        step
        if isinstance(step, Exception)
        else [_output(part) for part in (step if isinstance(step, list) else [step])]
        for step in steps
    ]
    return Agent(name=name, model=ScriptedModel(made, default_usage=USAGE), **more)


def _output(part: Any) -> Any:
    if isinstance(part, str):
        return assistant_message(part)
    tool, arguments, call_id = part
    return function_call(tool, arguments, call_id=call_id)


def said(role: str, content: Any) -> Any:
    """A message as an item."""
    return {"role": role, "content": content}
