from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from openinference.instrumentation.openai import OpenAIInstrumentor
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import Status, StatusCode

from taskctx_sql import ContextKey, Store, open_store
from taskctx_sql.integrations import identity
from taskctx_sql.integrations.otel import ContextSpanExporter, ContextSpanProcessor, export_context, spans_of
from tests.integrations.frameworks import REQUIRED
from tests.integrations.otel.spans import MODEL, ask_about_the_weather, in_memory, plain

QUESTION = {"role": "user", "parts": [{"type": "text", "content": "Weather in Oslo?"}]}
CALLS = {
    "role": "assistant",
    "parts": [{"type": "tool_call", "id": "call_1", "name": "weather", "arguments": {"city": "Oslo"}}],
}
RESPONSE = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call_1", "response": "rain"}]}
ANSWER = {"role": "assistant", "parts": [{"type": "text", "content": "Rain."}]}


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url) as opened:
        yield opened


@pytest.fixture
def provider(database_url: str, user: str) -> Iterator[TracerProvider]:
    """A provider whose spans are recorded."""
    found = TracerProvider(shutdown_on_exit=False)
    found.add_span_processor(ContextSpanProcessor(database_url, user_id=user))
    yield found
    found.shutdown()


@pytest.fixture
def key(user: str) -> ContextKey:
    return identity.key("otel", user, "c1")


def chat(tracer: trace.Tracer, inputs: list[Any], output: Any, **attributes: Any) -> None:
    """Write the span of a model, as the conventions say."""
    given = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.model": MODEL,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 40,
        "gen_ai.usage.cache_creation.input_tokens": 10,
        "gen_ai.usage.reasoning.output_tokens": 8,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.input.messages": json.dumps(inputs),
        "gen_ai.output.messages": json.dumps([{**output, "finish_reason": "stop"}]),
        **{name.replace("__", "."): value for name, value in attributes.items()},
    }
    with tracer.start_as_current_span("chat gpt-4o-mini", kind=trace.SpanKind.CLIENT, attributes=given):
        pass


def agent(tracer: trace.Tracer) -> None:
    """Write the spans of an agent: it asks a model, runs a tool, and asks again."""
    attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.conversation.id": "c1", "gen_ai.agent.name": "Ann"}
    instructions = json.dumps([{"type": "text", "content": "Be short."}])
    with tracer.start_as_current_span("invoke_agent Ann", attributes=attributes):
        chat(tracer, [QUESTION], CALLS, gen_ai__system_instructions=instructions)
        run = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "weather",
            "gen_ai.tool.call.id": "call_1",
            "gen_ai.tool.call.arguments": '{"city": "Oslo"}',
            "gen_ai.tool.call.result": "rain",
        }
        with (
            tracer.start_as_current_span("execute_tool weather", attributes=run),
            tracer.start_as_current_span("GET", attributes={"http.request.method": "GET"}),
        ):
            pass
        chat(tracer, [QUESTION, CALLS, RESPONSE], ANSWER)


async def test_an_agents_spans_become_a_context(store: Store, provider: TracerProvider, key: ContextKey) -> None:
    agent(provider.get_tracer("app"))
    provider.force_flush()
    loaded = await store.load(key)
    found = [(update.update_type, update.metadata.get("role")) for update in loaded.history]
    assert [item for item in found if item[0] != "event"] == [
        ("message", "system"),
        ("message", "user"),
        ("message", "assistant"),
        ("tool_call", None),
        ("tool_result", None),
        ("message", "tool"),
        ("message", "assistant"),
    ]
    assert [update.data["span"]["name"] for update in loaded.history if update.update_type == "event"] == [
        "chat gpt-4o-mini",
        "execute_tool weather",
        "chat gpt-4o-mini",
        "invoke_agent Ann",
    ]
    (first, second) = [use for _, use in loaded.models]
    tokens = {
        **{"input_tokens": 100, "output_tokens": 20, "cached_read_tokens": 40, "cached_write_tokens": 10},
        "reasoning_tokens": 8,
    }
    assert first.items() >= {"model_id": MODEL, "provider_id": "openai", "mode": "chat", **tokens}.items()
    assert second["timestamp"] >= first["timestamp"] + first["duration"]
    (run,) = await store.reports.context_runs(key)
    assert (run.outcome, run.error) == ("completed", None)
    assert await store.open_calls(key) == []
    (listed,) = await store.contexts(key.user_id)
    assert listed.labels == {"framework": "otel", "conversation": "c1"}


async def test_spans_come_back(store: Store, provider: TracerProvider, key: ContextKey) -> None:
    written, exported = in_memory()
    written.add_span_processor(provider._active_span_processor)
    tracer = written.get_tracer("app", "1.0")
    agent(tracer)
    chat(tracer, [QUESTION, CALLS, RESPONSE, ANSWER, QUESTION], ANSWER, gen_ai__conversation__id="c1")
    with (
        pytest.raises(KeyError),
        tracer.start_as_current_span(
            "invoke_agent", attributes={"session.id": "c1", "openinference.span.kind": "AGENT"}
        ),
    ):
        raise KeyError("city")
    provider.force_flush()
    _, back = in_memory()
    count = await export_context(store, key, back)
    expected = [plain(span) for span in exported.get_finished_spans() if span.name != "GET"]
    assert count == len(expected) == 6
    # OpenInference's attributes come back with those of the other convention.
    expected[-1]["attributes"] |= {"gen_ai.operation.name": "invoke_agent", "gen_ai.conversation.id": "c1"}
    assert [plain(span) for span in back.get_finished_spans()] == expected


async def test_messages_that_are_sent_again_are_recorded_once(
    store: Store, database_url: str, user: str, key: ContextKey
) -> None:
    for turn in range(3):
        # As by three processes.
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(ContextSpanProcessor(database_url, user_id=user))
        tracer = provider.get_tracer("app")
        inputs = [QUESTION, ANSWER] * turn + [QUESTION]
        chat(tracer, inputs, ANSWER, gen_ai__conversation__id="c1")
        provider.shutdown()
    messages = [update.data["role"] for update in (await store.load(key, types=("message",))).history]
    assert messages == ["user", "assistant"] * 3
    assert [
        len(json.loads(str((span.attributes or {})["gen_ai.input.messages"]))) for span in await spans_of(store, key)
    ] == [
        1,
        3,
        5,
    ]


async def test_openinferences_spans_of_the_openai_client(
    store: Store, provider: TracerProvider, key: ContextKey
) -> None:
    instrumentor = OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        with provider.get_tracer("app").start_as_current_span("turn", attributes={"session.id": "c1"}):
            ask_about_the_weather()
    finally:
        instrumentor.uninstrument()
    provider.force_flush()
    await check_weather(store, key, {"cached_read_tokens": 40, "reasoning_tokens": 8, "audio_tokens": 5})


async def test_opentelemetrys_spans_of_the_openai_client(
    store: Store, provider: TracerProvider, key: ContextKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_ONLY")
    try:
        from opentelemetry.instrumentation import openai_v2
    except ImportError as error:
        if REQUIRED:
            raise
        pytest.skip(f"its releases and those of what it needs do not always fit together: {error}")
    instrumentor: Any = openai_v2.OpenAIInstrumentor  # it has no types
    instrumentor = instrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        with provider.get_tracer("app").start_as_current_span("turn", attributes={"gen_ai.conversation.id": "c1"}):
            ask_about_the_weather()
    finally:
        instrumentor.uninstrument()
    provider.force_flush()
    await check_weather(store, key, {})


async def check_weather(store: Store, key: ContextKey, tokens: dict[str, int]) -> None:
    """Check what the three calls became."""
    loaded = await store.load(key)
    messages = [update.data for update in loaded.history if update.update_type == "message"]
    for message in messages:
        message.pop("finish_reason", None)
    system = {"role": "system", "parts": [{"type": "text", "content": "Be short."}]}
    assert messages == [system, QUESTION, CALLS, RESPONSE, ANSWER]
    first, second, third = [use for _, use in loaded.models]
    assert first.items() >= {"model_id": MODEL, "input_tokens": 100, "output_tokens": 20, **tokens}.items()
    assert (second["input_tokens"], third.get("input_tokens")) == (130, None)
    calls = [(update.update_type, update.metadata["group"]) for update in loaded.history if "group" in update.metadata]
    assert calls == [("tool_call", "call_1"), ("tool_result", "call_1")]
    (error,) = [error for error in await store.reports.errors(user_id=key.user_id) if error.kind == "update"]
    assert "400" in error.message


async def test_a_failed_tool_is_a_failed_call_and_a_failed_root_a_failed_run(
    store: Store, provider: TracerProvider, key: ContextKey
) -> None:
    tracer = provider.get_tracer("app")
    with tracer.start_as_current_span(
        "execute_tool weather",
        attributes={
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "weather",
            "gen_ai.conversation.id": "c1",
        },
    ) as span:
        span.set_status(Status(StatusCode.ERROR, "no such city"))
    provider.force_flush()
    result = (await store.load(key, types=("tool_result",))).history[0]
    assert result.metadata["error"] == "no such city"
    (run,) = await store.reports.context_runs(key)
    assert (run.outcome, run.error) == ("failed", "no such city")


async def test_a_trace_without_a_conversation_is_a_context(store: Store, provider: TracerProvider, user: str) -> None:
    with provider.get_tracer("app").start_as_current_span(
        "invoke_agent", attributes={"gen_ai.operation.name": "invoke_agent", "user.id": f"{user}-bob"}
    ) as span:
        trace_id = f"{span.get_span_context().trace_id:032x}"
        chat(provider.get_tracer("app"), [QUESTION], ANSWER)
    provider.force_flush()
    (listed,) = await store.contexts(f"{user}-bob")
    assert listed.chat_id == f"otel/{trace_id}"
    assert len((await store.load(ContextKey(listed.user_id, listed.chat_id))).models) == 1


async def test_what_another_framework_wrote_becomes_spans(store: Store, user: str) -> None:
    from taskctx_sql import ContextUpdate, Run
    from taskctx_sql.integrations import recording

    key = ContextKey(user, "adk/app/s1")
    updates = [
        ContextUpdate(11.0, *recording.tool_call("adk", "call_1", "weather", {"city": "Oslo"})),
        ContextUpdate(12.0, *recording.update("adk", "tool_result", {"result": "rain"}, call_id="call_1")),
        ContextUpdate(13.0, *recording.tool_call("adk", "call_2", "weather", {"city": "Rome"})),
        ContextUpdate(14.0, *recording.update("adk", "tool_result", None, call_id="call_2", error="no such city")),
    ]
    use = recording.model_use(
        "m", "openai", "agent", timestamp=10.5, input_tokens=3, cached_read_tokens=1, duration=0.25
    )
    run = Run("r1", 1, 10.0, 20.0, "failed", "KeyError: city")
    await store.write(key, updates=updates, models=[use], run=run)
    spans = await spans_of(store, key)
    assert [(span.name, span.parent is None, span.status.description) for span in spans] == [
        ("chat m", False, None),
        ("execute_tool weather", False, None),
        ("execute_tool weather", False, "no such city"),
        ("invoke_agent", True, "KeyError: city"),
    ]
    assert len({span.context.trace_id for span in spans if span.context}) == 1
    chatted = dict(spans[0].attributes or {})
    assert (chatted["gen_ai.usage.input_tokens"], chatted["gen_ai.usage.cache_read.input_tokens"]) == (3, 1)
    assert (spans[0].end_time or 0) - (spans[0].start_time or 0) == 250_000_000
    tool = dict(spans[1].attributes or {})
    assert (tool["gen_ai.tool.call.arguments"], tool["gen_ai.tool.call.result"]) == ('{"city": "Oslo"}', "rain")
    assert [span.context for span in await spans_of(store, key)] == [span.context for span in spans]


def test_a_store_that_cannot_be_opened_fails_the_export(caplog: pytest.LogCaptureFixture, tmp_path: Any) -> None:
    (tmp_path / "tasks.db").write_text("no database")
    exporter = ContextSpanExporter(f"sqlite:///{tmp_path}/tasks.db")
    provider, written = in_memory()
    chat(provider.get_tracer("app"), [QUESTION], ANSWER)
    assert exporter.export(written.get_finished_spans()) is SpanExportResult.FAILURE
    assert "1 spans were not recorded" in caplog.text
    exporter.shutdown()
