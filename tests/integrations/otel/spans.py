"""Spans, as two instrumentations and an application write them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pytest
from openai import BadRequestError, OpenAI
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

MODEL = "gpt-4o-mini-2024-07-18"
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
TOOL = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}


def _answer(name: str, message: dict[str, Any], reason: str, usage: dict[str, Any]) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": reason, "message": {"role": "assistant", **message}}
    return {"id": name, "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice], "usage": usage}


def _answers() -> Iterator[dict[str, Any]]:
    details = {
        "prompt_tokens_details": {"cached_tokens": 40, "audio_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 8, "audio_tokens": 0},
    }
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120, **details}
    yield _answer("chatcmpl-1", {"content": None, "tool_calls": [CALL]}, "tool_calls", usage)
    usage = {"prompt_tokens": 130, "completion_tokens": 3, "total_tokens": 133}
    yield _answer("chatcmpl-2", {"content": "Rain."}, "stop", usage)


def ask_about_the_weather() -> None:
    """Call the real client three times: the model calls a tool, answers, and refuses."""
    answers = _answers()

    def respond(request: httpx.Request) -> httpx.Response:
        answer = next(answers, None)
        return httpx.Response(200, json=answer) if answer else httpx.Response(400, json={"error": {"message": "bad"}})

    with httpx.Client(transport=httpx.MockTransport(respond)) as http:
        client = OpenAI(api_key="none", http_client=http, max_retries=0)
        more: Any = {"model": "gpt-4o-mini", "tools": [{"type": "function", "function": TOOL}]}
        messages: list[Any] = [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "Weather in Oslo?"},
        ]
        said = client.chat.completions.create(messages=messages, **more).choices[0].message
        messages.append(said.model_dump(exclude_none=True))
        messages.append({"role": "tool", "tool_call_id": "call_1", "content": "rain"})
        client.chat.completions.create(messages=messages, **more)
        with pytest.raises(BadRequestError):
            client.chat.completions.create(messages=messages, **more)


def in_memory() -> tuple[TracerProvider, InMemorySpanExporter]:
    """A provider, and what it has exported."""
    provider, exporter = TracerProvider(shutdown_on_exit=False), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


def plain(span: ReadableSpan) -> dict[str, Any]:
    """What is compared of a span: all but the resource; messages as values."""
    found: dict[str, Any] = json.loads(span.to_json())
    for event in found["events"]:
        event["attributes"].pop("exception.stacktrace", None)
    del found["resource"]
    for name in ("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions"):
        if name in found["attributes"]:
            found["attributes"][name] = json.loads(found["attributes"][name])
    scope = span.instrumentation_scope
    return {**found, "scope": scope and (scope.name, scope.version)}
