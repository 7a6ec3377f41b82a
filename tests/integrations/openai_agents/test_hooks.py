from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from agents import Agent, RunHooks, Runner, function_tool

from taskctx_sql import Store, prices
from taskctx_sql.errors import StoreClosedError
from taskctx_sql.integrations.openai_agents import ContextSession
from taskctx_sql.integrations.openai_agents.hooks import model_use
from tests.integrations.openai_agents.conftest import USAGE, add, fail, scripted
from tests.support.waiting import SOON

Sessions = Callable[..., ContextSession]


async def run(agent: Agent[Any], session: ContextSession, text: str = "Hello", *, streamed: bool = False) -> Any:
    if not streamed:
        return await Runner.run(agent, text, session=session, hooks=session.hooks())
    result = Runner.run_streamed(agent, text, session=session, hooks=session.hooks())
    async for _ in result.stream_events():
        pass
    return result


@pytest.mark.parametrize("streamed", [False, True])
async def test_each_use_of_a_model_is_recorded_with_its_tokens(
    session: ContextSession, sql: Store, streamed: bool
) -> None:
    agent = scripted([("add", {"a": 1, "b": 2}, "call-1")], "3", tools=[add])
    await run(agent, session, streamed=streamed)
    used = [entry for _, entry in (await sql.load(session.key)).models]
    assert len(used) == 2
    for use in used:
        assert use["duration"] >= 0
        facts = {name: value for name, value in use.items() if name not in ("duration", "timestamp")}
        assert facts == {
            "model_id": "ScriptedModel",
            "provider_id": "openai",
            "mode": "helper",
            "input_tokens": 100,
            "output_tokens": 30,
            "cached_read_tokens": 40,
            "cached_write_tokens": 7,
            "reasoning_tokens": 5,
        }
    (row,) = await sql.reports.runs(user_id=session.key.user_id)
    assert (row.outcome, row.input_tokens, row.output_tokens) == ("completed", 200, 60)


async def test_a_use_of_a_model_has_its_cost_by_prices(session: ContextSession, sql: Store) -> None:
    agent = scripted("Hi.")
    await Runner.run(agent, "Hello", session=session, hooks=session.hooks(model="gpt-5"))
    ((_, use),) = (await sql.load(session.key)).models
    tokens = {"input_tokens": 100, "output_tokens": 30, "cached_read_tokens": 40}
    price = prices.estimate("gpt-5", "openai", **tokens, at=use["timestamp"])
    assert price is not None
    # Of a million tokens: 1.25 dollars for input, a tenth of it from the cache, and 10 dollars for output.
    assert use["cost"] == price.cost == pytest.approx((60 * 1.25 + 40 * 0.125 + 30 * 10) / 1e6)
    assert use["price_list"] == price.price_list
    (run,) = await sql.reports.runs(user_id=session.key.user_id)
    assert run.cost == use["cost"]


async def test_usage_that_was_stored_by_hand_is_recorded_once(session: ContextSession, sql: Store) -> None:
    result = await run(scripted("Hi.", "Ho."), session)
    await session.store_run_usage(result)
    assert len((await sql.load(session.key)).models) == 1
    await session.store_run_usage(await Runner.run(scripted("Hi."), "Again", session=session))
    assert len((await sql.load(session.key)).models) == 2


async def test_calls_of_tools_are_as_long_as_the_tools_took(session: ContextSession, sql: Store) -> None:
    @function_tool
    async def wait() -> str:
        """Wait a little."""
        await asyncio.sleep(0.05)
        return "done"

    agent = scripted([("wait", {}, "call-1"), ("fail", {}, "call-2")], "Done.", tools=[wait, fail])
    await run(agent, session)
    updates = [row.update async for row in sql.updates(session.key, types=["tool_call", "tool_result"])]
    calls, results = updates[:2], updates[2:]
    assert [update.metadata["name"] for update in calls] == ["wait", "fail"]
    assert 0.05 <= results[0].timestamp - calls[0].timestamp < SOON
    assert "error" not in results[0].metadata
    assert "An error occurred" in results[1].metadata["error"]


async def test_tool_items_are_written_once(session: ContextSession) -> None:
    await run(scripted([("add", {"a": 1, "b": 2}, "call-1")], "3", tools=[add]), session)
    kinds = [item.get("type", item.get("role")) for item in await session.get_items()]
    assert kinds == ["user", "function_call", "function_call_output", "message"]


async def test_a_handoff_is_recorded_beside_the_items(session: ContextSession, sql: Store) -> None:
    second = scripted("Here I am.", name="second")
    first = scripted([("transfer_to_second", {}, "call-1")], name="first", handoffs=[second])
    await run(first, session)
    (handoff,) = [row.update async for row in sql.updates(session.key, types=["handoff"])]
    assert handoff.data == {"from": "first", "to": "second"}
    assert [use["mode"] for _, use in (await sql.load(session.key)).models] == ["first", "second"]
    assert len(await session.get_items()) == 4


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_run_that_did_not_end_has_failed(session: ContextSession, sql: Store, streamed: bool) -> None:
    agent = scripted("Fine.", [("add", {"a": 1, "b": 2}, "call-1")], RuntimeError("no model"), "Well.", tools=[add])
    await run(agent, session, "one", streamed=streamed)
    with pytest.raises(RuntimeError, match="no model"):
        await run(agent, session, "two", streamed=streamed)
    await run(agent, session, "three", streamed=streamed)
    outcomes = [(task.outcome, task.error) for task in await sql.reports.context_runs(session.key)]
    assert outcomes == [("completed", None), ("failed", "the agent's run did not end"), ("completed", None)]


async def test_hooks_of_an_agent_record_the_same(session: ContextSession, sql: Store) -> None:
    agent = scripted([("add", {"a": 1, "b": 2}, "call-1")], "3", tools=[add], hooks=session.agent_hooks(model="gpt-5"))
    await Runner.run(agent, "1 + 2?", session=session)
    assert [use["model_id"] for _, use in (await sql.load(session.key)).models] == ["gpt-5", "gpt-5"]
    assert len(await session.get_turn_usage()) == 1


async def test_a_failure_of_the_store_reaches_the_caller(
    sql: Store, user: str, caplog: pytest.LogCaptureFixture
) -> None:
    class ClosesTheStore(RunHooks[Any]):
        async def on_agent_start(self, context: Any, agent: Any) -> None:
            await sql.close()

    session = ContextSession("c1", sql, user_id=user)
    agent = scripted("Hi.", hooks=session.agent_hooks())
    with caplog.at_level(logging.ERROR, "taskctx_sql"), pytest.raises(StoreClosedError):
        await Runner.run(agent, "Hello", session=session, hooks=ClosesTheStore())
    assert "could not be recorded in session 'c1'" in caplog.text


@pytest.mark.parametrize(
    ("model", "recorded"),
    [
        ("gpt-5", ("openai", "gpt-5")),
        ("openai/gpt-5", ("openai", "gpt-5")),
        ("litellm/anthropic/claude-sonnet-4", ("anthropic", "claude-sonnet-4")),
        ("any-llm/openrouter/meta/llama", ("openrouter", "meta/llama")),
    ],
)
def test_the_provider_is_in_the_models_name(model: str, recorded: tuple[str, str]) -> None:
    use = model_use(model, "helper", USAGE, 5.0, None)
    assert (use["provider_id"], use["model_id"]) == recorded
    assert "duration" not in use
