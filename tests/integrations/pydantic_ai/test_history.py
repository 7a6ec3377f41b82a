from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.capabilities import ProcessHistory
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    BinaryContent,
    BinaryImage,
    DocumentUrl,
    FilePart,
    ImageUrl,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    NativeToolCallPart,
    NativeToolReturnPart,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from taskctx_sql import ContextKey, SqlStore
from taskctx_sql.integrations import identity
from taskctx_sql.integrations.pydantic_ai import ContextHistory, Conversation

IMAGE = BinaryImage(data=b"\xff\x00\xfe", media_type="image/png", identifier="i1")
EVERY_PART: list[ModelMessage] = [
    ModelRequest(
        parts=[
            SystemPromptPart("be brief", dynamic_ref="ref"),
            UserPromptPart(["look", IMAGE, ImageUrl("https://x/y.png", identifier="i2", media_type="image/png")]),
            UserPromptPart([BinaryContent(b"\x00", media_type="application/pdf", vendor_metadata={"a": None})]),
            UserPromptPart([DocumentUrl("https://x/y.pdf", identifier="i3", media_type="application/pdf")]),
        ],
        instructions="answer",
    ),
    ModelResponse(
        parts=[
            ThinkingPart("hm", signature="s", provider_name="anthropic"),
            TextPart("so"),
            ToolCallPart("find", {"q": None}, "c1"),
            ToolCallPart("count", '{"n": 1}', "c2"),
            NativeToolCallPart("web_search", {"query": "x"}, "c3", provider_name="openai"),
            NativeToolReturnPart("web_search", {"found": [1]}, "c3", provider_name="openai"),
            FilePart(IMAGE),
        ],
        usage=RequestUsage(
            input_tokens=50,
            output_tokens=20,
            cache_read_tokens=30,
            cache_write_tokens=5,
            output_reasoning_tokens=7,
            input_audio_tokens=2,
            details={"x": 1},
            cost=Decimal("0.0125"),
        ),
        model_name="gpt-5",
        provider_name="openai",
        provider_details={"finish": "stop"},
        finish_reason="tool_call",
    ),
    ModelRequest(
        parts=[
            ToolReturnPart("find", {"image": IMAGE, "n": [1, None]}, "c1", metadata={"m": 1}),
            ToolReturnPart("count", "too many", "c2", outcome="failed"),
        ]
    ),
]


def answers(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Say how many messages there were; call a tool first, if there is one and it was not called in this turn."""
    if info.function_tools and not any(isinstance(part, ToolReturnPart) for part in messages[-1].parts):
        return ModelResponse(parts=[ToolCallPart("double", {"x": 2})], usage=RequestUsage(input_tokens=5))
    return ModelResponse(parts=[TextPart(f"{len(messages)} messages")], usage=RequestUsage(input_tokens=7))


def agent_with(sql: SqlStore, user: str, **given: Any) -> Agent[None, str]:
    capabilities = [ContextHistory(sql, user_id=user, limit=given.pop("limit", None)), *given.pop("capabilities", [])]
    return Agent(FunctionModel(answers), name="helper", capabilities=capabilities, **given)


def double(x: int) -> int:
    return 2 * x


def fail(x: int) -> int:
    raise ValueError("no")


@pytest.fixture
def key(user: str) -> ContextKey:
    return identity.key("pydantic_ai", user, "c1")


@pytest.fixture
def conversation(sql: SqlStore, user: str) -> Conversation:
    return Conversation(sql, "c1", user_id=user)


async def test_every_kind_of_part_comes_back_equal(sql: SqlStore, user: str, conversation: Conversation) -> None:
    await conversation.add(EVERY_PART)
    assert await Conversation(sql, "c1", user_id=user).messages() == EVERY_PART
    json = ModelMessagesTypeAdapter.dump_json(EVERY_PART)
    assert ModelMessagesTypeAdapter.dump_json(await conversation.messages()) == json


async def test_messages_that_begin_with_no_user_are_read_whole(conversation: Conversation) -> None:
    await conversation.add(EVERY_PART[1:])
    assert await conversation.messages() == EVERY_PART[1:]
    assert await conversation.messages(limit=2) == EVERY_PART[1:]


async def test_tokens_by_kind_and_the_cost_are_a_use_of_a_model(
    sql: SqlStore, conversation: Conversation, key: ContextKey
) -> None:
    await conversation.add(EVERY_PART, duration=1.5)
    ((_, use),) = (await sql.load(key)).models
    assert (use["model_id"], use["provider_id"], use["mode"]) == ("gpt-5", "openai", "chat")
    kinds = ("input_tokens", "output_tokens", "cached_read_tokens", "cached_write_tokens", "reasoning_tokens")
    assert [use[kind] for kind in (*kinds, "audio_tokens")] == [50, 20, 30, 5, 7, 2]
    assert (use["cost"], use["duration"]) == (0.0125, 1.5)


async def test_calls_of_tools_and_their_results_share_a_group(
    sql: SqlStore, conversation: Conversation, key: ContextKey
) -> None:
    await conversation.add(EVERY_PART[:2])
    assert [(call.call_id, call.name) for call in await sql.open_calls(key)] == [("c1", "find"), ("c2", "count")]
    await conversation.add(EVERY_PART[2:])
    assert await sql.open_calls(key) == []
    failed = (await sql.load(key, types=("tool_result",))).history[-1]
    assert failed.metadata["error"] == "failed: too many"


async def test_calls_that_a_crash_left_open_are_answered(sql: SqlStore, conversation: Conversation) -> None:
    await conversation.add(EVERY_PART[:2])
    messages = await conversation.close_calls("the program stopped")
    found = [(part.tool_call_id, part.outcome) for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
    assert found == [("c1", "interrupted"), ("c2", "interrupted")]
    assert await sql.open_calls(conversation.key) == []
    assert await conversation.close_calls() == messages
    assert [(run.outcome, run.error) for run in await sql.reports.context_runs(conversation.key)] == [
        ("cancelled", "the program stopped")
    ]


async def test_only_what_differs_is_written(sql: SqlStore, conversation: Conversation, key: ContextKey) -> None:
    await conversation.save(EVERY_PART)
    saved = await sql.load(key)
    await conversation.save(EVERY_PART)
    assert (await sql.load(key)).revision == saved.revision
    shorter = [EVERY_PART[0], ModelResponse(parts=[TextPart("in short")])]
    await conversation.save(shorter)
    assert await conversation.messages() == shorter
    loaded = await sql.load(key)
    assert loaded.seqs[0] == saved.seqs[0]
    assert [update.update_type for update in loaded.history] == ["message", "message"]
    assert await sql.open_calls(key) == []


async def test_a_message_that_a_run_completes_later_is_counted_once(
    sql: SqlStore, conversation: Conversation, key: ContextKey
) -> None:
    await conversation.save(EVERY_PART[:2])
    completed = replace(EVERY_PART[1], metadata={"rated": 5})
    await conversation.save([EVERY_PART[0], completed])
    assert await conversation.messages() == [EVERY_PART[0], completed]
    assert len((await sql.load(key)).models) == 1


async def test_the_newest_messages_begin_with_the_users(conversation: Conversation) -> None:
    turns = [
        message
        for number in range(3)
        for message in (ModelRequest(parts=[UserPromptPart(str(number))]), ModelResponse(parts=[TextPart("yes")]))
    ]
    await conversation.add(turns)
    assert await conversation.messages(limit=3) == turns[4:]
    assert await conversation.messages(limit=4) == turns[2:]


async def test_a_conversation_goes_on_where_it_stopped(sql: SqlStore, user: str, key: ContextKey) -> None:
    first = await agent_with(sql, user, tools=[double]).run("one", conversation_id="c1")
    second = await agent_with(sql, user, tools=[double]).run("two", conversation_id="c1")
    assert (first.output, second.output) == ("3 messages", "7 messages")
    assert await Conversation(sql, "c1", user_id=user).messages() == second.all_messages()
    loaded = await sql.load(key)
    assert [use["input_tokens"] for _, use in loaded.models] == [5, 7, 5, 7]
    assert all("duration" in use for _, use in loaded.models)
    assert [(run.outcome, run.error) for run in await sql.reports.context_runs(key)] == [("completed", None)] * 2
    (summary,) = await sql.contexts(user, labels={"framework": "pydantic_ai", "conversation": "c1"})
    assert summary.chat_id == key.chat_id


async def test_a_run_gets_only_the_newest_messages(sql: SqlStore, user: str) -> None:
    for _ in range(2):
        await agent_with(sql, user).run("hi", conversation_id="c1")
    result = await agent_with(sql, user, limit=2).run("hi", conversation_id="c1")
    assert result.output == "3 messages"
    assert len(await Conversation(sql, "c1", user_id=user).messages()) == 6


async def test_a_history_that_a_run_is_given_is_taken_instead(sql: SqlStore, user: str) -> None:
    agent = agent_with(sql, user)
    first = await agent.run("one", conversation_id="c1")
    await agent.run("two", conversation_id="c1")
    third = await agent.run("three", conversation_id="c1", message_history=first.all_messages())
    assert third.output == "3 messages"
    assert await Conversation(sql, "c1", user_id=user).messages() == third.all_messages()


async def test_a_history_that_a_processor_shortened_is_kept_so(sql: SqlStore, user: str) -> None:
    agent = agent_with(sql, user, capabilities=[ProcessHistory(lambda messages: messages[-1:])])
    for _ in range(2):
        result = await agent.run("hi", conversation_id="c1")
    assert await Conversation(sql, "c1", user_id=user).messages() == result.all_messages()


async def test_a_run_that_fails_keeps_its_messages_and_says_why(sql: SqlStore, user: str, key: ContextKey) -> None:
    agent = agent_with(sql, user)
    agent.tool_plain(name="double")(fail)
    with pytest.raises(ValueError, match="no"):
        await agent.run("one", conversation_id="c1")
    *_, last = await Conversation(sql, "c1", user_id=user).messages()
    assert isinstance(last, ModelRequest)
    assert last.state == "interrupted"
    assert [call.name for call in await sql.open_calls(key)] == ["double"]
    (run,) = await sql.reports.context_runs(key)
    assert (run.outcome, run.error) == ("failed", "ValueError: no")
    # The next run answers the call, as Pydantic AI does.
    await agent_with(sql, user).run("two", conversation_id="c1")
    assert await sql.open_calls(key) == []


async def test_a_run_that_is_cancelled_says_so(sql: SqlStore, user: str, key: ContextKey) -> None:
    started = asyncio.Event()

    async def wait(x: int) -> int:
        started.set()
        await asyncio.Event().wait()
        return x

    agent = agent_with(sql, user)
    agent.tool_plain(name="double")(wait)
    task = asyncio.create_task(agent.run("one", conversation_id="c1"))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (run,) = await sql.reports.context_runs(key)
    assert run.outcome == "cancelled"


async def test_a_streamed_answer_is_kept(sql: SqlStore, user: str) -> None:
    async def stream(messages: list[ModelMessage], info: AgentInfo) -> Any:
        yield "one "
        yield "two"

    agent = Agent(FunctionModel(stream_function=stream), capabilities=[ContextHistory(sql, user_id=user)])
    async with agent.run_stream("hi", conversation_id="c1") as result:
        assert await result.get_output() == "one two"
    messages = await Conversation(sql, "c1", user_id=user).messages()
    assert [type(message) for message in messages] == [ModelRequest, ModelResponse]


async def test_a_run_that_fails_before_it_asks_a_model_leaves_the_conversation_as_it_was(
    sql: SqlStore, user: str
) -> None:
    conversation = Conversation(sql, "c1", user_id=user)
    messages: list[ModelMessage] = [
        ModelRequest(parts=[UserPromptPart("Find it")]),
        # As after a crash: the call has no result.
        ModelResponse(parts=[ToolCallPart("find", {}, "call-1")]),
    ]
    await conversation.add(messages)
    model = FunctionModel(lambda _, __: ModelResponse(parts=[TextPart("Yes")]))
    agent = Agent(model, capabilities=[ContextHistory(sql, user)])
    with pytest.raises(UserError, match="unprocessed tool calls"):
        await agent.run("And now?", conversation_id="c1")
    assert await conversation.messages() == messages
    await conversation.close_calls()
    result = await agent.run("And now?", conversation_id="c1")
    assert result.output == "Yes"
    assert len(result.all_messages()) == 5
