from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from google.adk.agents.llm_agent import LlmAgent
from google.adk.apps.app import App
from google.adk.models.base_llm import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.runners import Runner
from google.adk.sessions.session import Session
from google.genai import types

from taskctx_sql import ContextKey, SqlStore, Store
from taskctx_sql.integrations import identity
from taskctx_sql.integrations.adk import ContextSessionService, RunPlugin

CALL = types.Part(function_call=types.FunctionCall(name="add", args={"x": 1, "y": 2}))
USAGE = types.GenerateContentResponseUsageMetadata(prompt_token_count=10, candidates_token_count=3)


class ScriptedModel(BaseLlm):
    """Answers with one part after the other; raises those that are errors, and waits at those that are events."""

    model: str = "gemini-2.5-flash"
    script: list[Any]

    async def generate_content_async(
        self, llm_request: LlmRequest, stream: bool = False
    ) -> AsyncGenerator[LlmResponse, None]:
        part = self.script.pop(0)
        if isinstance(part, Exception):
            raise part
        if isinstance(part, asyncio.Event):
            part.set()
            await asyncio.Event().wait()
        yield LlmResponse(content=types.Content(role="model", parts=[part]), usage_metadata=USAGE)


def add(x: int, y: int) -> int:
    """Add two numbers."""
    if y < 0:
        raise ValueError("below zero")
    return x + y


async def ask(service: ContextSessionService, session: Session, script: list[Any], *, plugin: bool = True) -> None:
    agent = LlmAgent(name="helper", model=ScriptedModel(script=script), tools=[add])
    app = App(name=session.app_name, root_agent=agent, plugins=[RunPlugin(service)] if plugin else [])
    runner = Runner(app=app, session_service=service)
    message = types.Content(role="user", parts=[types.Part(text="1 and 2?")])
    async for _ in runner.run_async(user_id=session.user_id, session_id=session.id, new_message=message):
        pass


@pytest.fixture
async def session(service: ContextSessionService, app: str, user: str) -> Session:
    return await service.create_session(app_name=app, user_id=user, session_id="s1")


@pytest.fixture
def key(session: Session) -> ContextKey:
    return identity.key("adk", session.user_id, session.app_name, session.id)


@pytest.mark.parametrize("plugin", [True, False])
async def test_a_turn_is_a_run_with_its_messages_tools_and_tokens(
    sql: SqlStore, service: ContextSessionService, session: Session, key: ContextKey, plugin: bool
) -> None:
    await ask(service, session, [CALL, types.Part(text="3")], plugin=plugin)
    loaded = await sql.load(key)
    written = [(update.update_type, update.metadata.get("role")) for update in loaded.history]
    messages = [("message", "user"), ("message", "assistant"), ("message", "tool"), ("message", "assistant")]
    assert written == [*messages[:2], ("tool_call", None), messages[2], ("tool_result", None), messages[3]]
    assert [use["input_tokens"] for _, use in loaded.models] == [10, 10]
    assert [use["model_id"] for _, use in loaded.models] == ["gemini-2.5-flash" if plugin else "unknown"] * 2
    assert all(("duration" in use) == plugin for _, use in loaded.models)
    *_, newest = await sql.reports.context_runs(key)
    assert (newest.outcome, newest.error) == ("completed", None)
    assert await sql.open_calls(key) == []


async def test_a_model_that_fails_is_an_error_of_a_failed_run(
    sql: SqlStore, service: ContextSessionService, session: Session, key: ContextKey
) -> None:
    with pytest.raises(RuntimeError, match="no answer"):
        await ask(service, session, [RuntimeError("no answer")])
    (error,) = (await sql.load(key, types=("error",))).history
    assert "no answer" in error.data["message"]
    outcomes = {(run.outcome, run.error) for run in await sql.reports.context_runs(key)}
    assert ("failed", "RuntimeError: no answer") in outcomes


async def test_a_tool_that_fails_closes_its_call(
    sql: SqlStore, service: ContextSessionService, session: Session, key: ContextKey
) -> None:
    bad = types.Part(function_call=types.FunctionCall(name="add", args={"x": 1, "y": -2}))
    with pytest.raises(ValueError, match="below zero"):
        await ask(service, session, [bad])
    result = (await sql.load(key, types=("tool_result",))).history[-1]
    assert result.metadata["error"] == "ValueError: below zero"
    assert await sql.open_calls(key) == []


async def test_without_the_plugin_a_tool_that_fails_leaves_its_call_open(
    sql: Store, service: ContextSessionService, session: Session, key: ContextKey
) -> None:
    bad = types.Part(function_call=types.FunctionCall(name="add", args={"x": 1, "y": -2}))
    with pytest.raises(ValueError, match="below zero"):
        await ask(service, session, [bad], plugin=False)
    assert [call.name for call in await sql.open_calls(key)] == ["add"]


async def test_a_turn_is_taken_back(service: ContextSessionService, session: Session) -> None:
    await ask(service, session, [types.Part(text="3")])
    found = await service.get_session(app_name=session.app_name, user_id=session.user_id, session_id=session.id)
    assert found is not None
    invocation = found.events[0].invocation_id
    agent = LlmAgent(name="helper", model=ScriptedModel(script=[]))
    runner = Runner(app_name=session.app_name, agent=agent, session_service=service)
    await runner.rewind_async(user_id=session.user_id, session_id=session.id, rewind_before_invocation_id=invocation)
    again = await service.get_session(app_name=session.app_name, user_id=session.user_id, session_id=session.id)
    assert again is not None
    assert again.events[-1].actions.rewind_before_invocation_id == invocation


async def test_a_turn_that_is_cancelled_has_ended_when_the_next_one_begins_or_the_service_is_closed(
    sql: SqlStore, service: ContextSessionService, session: Session, key: ContextKey
) -> None:
    for then in (ask(service, session, [types.Part(text="3")]), service.close()):
        asked = asyncio.Event()
        turn = asyncio.create_task(ask(service, session, [asked]))
        await asked.wait()
        turn.cancel()
        await asyncio.wait([turn])
        await then
    outcomes = [run.outcome for run in await sql.reports.context_runs(key)]
    # The first run created the session.
    assert sorted(outcomes) == ["cancelled", "cancelled", "completed", "completed"]
