"""Contexts become spans: those that were recorded come back, and what other frameworks wrote becomes new ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from taskctx_sql import ContextKey, ContextUpdate, Store
from taskctx_sql.integrations import recording
from taskctx_sql.integrations.otel.conventions import (
    ARGUMENTS,
    AUDIO,
    CONVERSATION,
    CONVERSATIONS,
    INPUT,
    INSTRUCTIONS,
    MODELS,
    OPERATION,
    OUTPUT,
    PROVIDERS,
    RESULT,
    TOKENS,
)
from taskctx_sql.reports import RunReport

_SCOPE: Final = InstrumentationScope("taskctx_sql")
_ATTRIBUTES: Final = {"instructions": INSTRUCTIONS, "inputs": INPUT, "outputs": OUTPUT}


async def export_context(store: Store, key: ContextKey, exporter: SpanExporter) -> int:
    """Export a context as spans, and return how many there were.

    Args:
        store: An open store.
        key: Whose context.
        exporter: Any exporter of OpenTelemetry's, such as ``OTLPSpanExporter``; its calls block.

    Raises:
        RuntimeError: The exporter did not succeed; its log says why.
        StoreError: The store failed.
    """
    spans = await spans_of(store, key)
    if exporter.export(spans) is not SpanExportResult.SUCCESS:
        raise RuntimeError(f"{type(exporter).__name__} did not export the {len(spans)} spans of context {key}")
    return len(spans)


async def spans_of(store: Store, key: ContextKey) -> list[ReadableSpan]:
    """Return a context as spans, in the order in which they ended.

    Spans that this integration recorded come back with their ids, times, attributes and messages, but for the resource
    and links, and with messages in the form of OpenTelemetry's conventions. Of a context of another framework, each
    run, model use and tool call is a span.

    Args:
        store: An open store.
        key: Whose context. There are no spans if the store does not have it.

    Raises:
        StoreError: The store failed.
    """
    loaded = await store.load(key)
    recorded = [update for update in loaded.history if _is_span(update)]
    if recorded:
        messages = [update.data for update in loaded.history if update.update_type == recording.MESSAGE]
        calls = _calls(loaded.history)
        return [_recorded(update.data, update.metadata["name"], messages, calls) for update in recorded]
    runs = await store.reports.context_runs(key)
    made = [_run(key, run) for run in runs]
    made += [_model(key, seq, use, made[: len(runs)]) for seq, use in loaded.models]
    made += [_tool(key, call, parts, made[: len(runs)]) for call, parts in _calls(loaded.history).items()]
    return sorted(made, key=lambda span: span.end_time or 0)


def _is_span(update: ContextUpdate) -> bool:
    return update.update_type == recording.EVENT and isinstance(update.data, dict) and "span" in update.data


def _calls(history: Iterable[ContextUpdate]) -> dict[str, dict[str, ContextUpdate]]:
    """Return the updates of each tool call by its id: "tool_call", and "tool_result" if it has one."""
    calls: dict[str, dict[str, ContextUpdate]] = {}
    for update in history:
        if update.update_type in (recording.TOOL_CALL, recording.TOOL_RESULT) and update.metadata.get("group"):
            calls.setdefault(str(update.metadata["group"]), {})[update.update_type] = update
    return {call: parts for call, parts in calls.items() if recording.TOOL_CALL in parts}


def _recorded(
    data: dict[str, Any], operation: str, messages: Sequence[Any], calls: dict[str, dict[str, ContextUpdate]]
) -> ReadableSpan:
    kept = data["span"]
    attributes = dict(kept["attributes"])
    for name, attribute in _ATTRIBUTES.items():
        if name in data:
            numbers = [number for first, last in data[name] for number in range(first, last + 1)]
            said = [messages[number] for number in numbers]
            if name == "inputs":
                # A message that is sent back does not say why the model had stopped.
                said = [{field: message[field] for field in message if field != "finish_reason"} for message in said]
            attributes[attribute] = _json(said[0]["parts"] if name == "instructions" else said)
    call = attributes.get("gen_ai.tool.call.id", attributes.get("tool_call.id", kept["span_id"]))
    if call in calls and ("gen_ai.tool.name" in attributes or "tool.name" in attributes):
        attributes |= _tool_content(calls[call])
    if OPERATION not in attributes:
        attributes = {**_conventional(attributes), OPERATION: operation, **attributes}
    trace = int(kept["trace_id"], 16)
    events = [Event(event["name"], event["attributes"], event["timestamp"]) for event in kept["events"]]
    return ReadableSpan(
        kept["name"],
        _context(trace, int(kept["span_id"], 16)),
        _context(trace, int(kept["parent_id"], 16)) if kept["parent_id"] else None,
        Resource.get_empty(),
        attributes,
        events,
        kind=SpanKind[kept["kind"]],
        status=Status(StatusCode[kept["status"]], kept["description"]),
        start_time=kept["start_time"],
        end_time=kept["end_time"],
        instrumentation_scope=InstrumentationScope(*kept["scope"]) if kept["scope"] else None,
    )


def _conventional(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what attributes of OpenInference say as those of OpenTelemetry's conventions."""
    names = {CONVERSATIONS[0]: CONVERSATIONS, MODELS[0]: MODELS, PROVIDERS[0]: PROVIDERS}
    names |= {same[0]: same for same in (*TOKENS.values(), *AUDIO)}
    found = {
        name: next((attributes[other] for other in same if other in attributes), None) for name, same in names.items()
    }
    return {name: value for name, value in found.items() if value is not None}


def _run(key: ContextKey, run: RunReport) -> ReadableSpan:
    trace, span = _number(16, key, run.run_id), _number(8, key, run.run_id)
    attributes = {OPERATION: "invoke_agent", CONVERSATION: key.chat_id, "user.id": key.user_id}
    failed = run.outcome == "failed"
    if failed:
        attributes["error.type"] = (run.error or "unknown").partition(":")[0]
    end = run.started_at if run.ended_at is None else run.ended_at
    status = Status(StatusCode.ERROR, run.error) if failed else Status(StatusCode.UNSET)
    return _made("invoke_agent", trace, span, None, attributes, run.started_at, end, status=status)


def _model(key: ContextKey, seq: int, use: dict[str, Any], runs: Sequence[ReadableSpan]) -> ReadableSpan:
    start = use.get("timestamp") or 0.0
    attributes: dict[str, Any] = {
        OPERATION: "chat",
        CONVERSATION: key.chat_id,
        "gen_ai.request.model": use.get("model_id"),
        "gen_ai.provider.name": use.get("provider_id"),
        **{names[0]: use[kind] for kind, names in TOKENS.items() if use.get(kind) is not None},
        # A use has the sum of both, most of which is input.
        **({AUDIO[0][0]: use["audio_tokens"]} if use.get("audio_tokens") is not None else {}),
    }
    parent = _parent(runs, start)
    trace = parent.context.trace_id if parent and parent.context else _number(16, key, f"model {seq}")
    name, end = f"chat {use.get('model_id')}", start + (use.get("duration") or 0.0)
    return _made(name, trace, _number(8, key, f"model {seq}"), parent, attributes, start, end, kind=SpanKind.CLIENT)


def _tool(key: ContextKey, call: str, parts: dict[str, ContextUpdate], runs: Sequence[ReadableSpan]) -> ReadableSpan:
    made, result = parts[recording.TOOL_CALL], parts.get(recording.TOOL_RESULT)
    name = str(made.metadata.get("name", "tool"))
    attributes = {
        OPERATION: "execute_tool",
        CONVERSATION: key.chat_id,
        "gen_ai.tool.name": name,
        "gen_ai.tool.call.id": call,
        **_tool_content(parts),
    }
    error = None if result is None else result.metadata.get("error")
    if error is not None:
        attributes["error.type"] = "tool_error"
    status = Status(StatusCode.UNSET) if error is None else Status(StatusCode.ERROR, str(error))
    parent = _parent(runs, made.timestamp)
    trace = parent.context.trace_id if parent and parent.context else _number(16, key, f"tool {call}")
    span = _number(8, key, f"tool {call}")
    end = made.timestamp if result is None else result.timestamp
    return _made(f"execute_tool {name}", trace, span, parent, attributes, made.timestamp, end, status=status)


def _tool_content(parts: dict[str, ContextUpdate]) -> dict[str, str]:
    """Return the attributes with a tool call's arguments and result."""
    said = parts[recording.TOOL_CALL].data
    attributes = {ARGUMENTS: _json(said.get("arguments", said) if isinstance(said, dict) else said)}
    if (update := parts.get(recording.TOOL_RESULT)) is not None:
        result = update.data
        attributes[RESULT] = _json(result.get("result", result) if isinstance(result, dict) else result)
    return attributes


def _parent(runs: Sequence[ReadableSpan], at: float) -> ReadableSpan | None:
    """Return the newest run that had begun by then, and had not ended."""
    moment = _nanoseconds(at)
    return next((run for run in reversed(runs) if (run.start_time or 0) <= moment <= (run.end_time or 0)), None)


def _made(
    name: str,
    trace: int,
    span: int,
    parent: ReadableSpan | None,
    attributes: dict[str, Any],
    start: float,
    end: float,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    status: Status | None = None,
) -> ReadableSpan:
    return ReadableSpan(
        name,
        _context(trace, span),
        parent.context if parent else None,
        Resource.get_empty(),
        attributes,
        kind=kind,
        status=status or Status(StatusCode.UNSET),
        start_time=_nanoseconds(start),
        end_time=_nanoseconds(end),
        instrumentation_scope=_SCOPE,
    )


def _context(trace: int, span: int) -> SpanContext:
    return SpanContext(trace, span, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _number(size: int, key: ContextKey, name: str) -> int:
    """Return an id of so many bytes, the same each time that the context is exported."""
    digest = hashlib.sha256(f"{key.user_id}\0{key.chat_id}\0{name}".encode()).digest()
    return int.from_bytes(digest[:size], "big")


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
