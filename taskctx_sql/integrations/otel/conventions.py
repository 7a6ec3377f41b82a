"""What the attributes of a span say: OpenTelemetry's conventions for generative AI, and those of OpenInference."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from taskctx_sql.integrations.otel.messages import Message, flat_messages, structured_messages

CONVERSATION: Final = "gen_ai.conversation.id"
OPERATION: Final = "gen_ai.operation.name"
INPUT: Final = "gen_ai.input.messages"
OUTPUT: Final = "gen_ai.output.messages"
INSTRUCTIONS: Final = "gen_ai.system_instructions"
ARGUMENTS: Final = "gen_ai.tool.call.arguments"
RESULT: Final = "gen_ai.tool.call.result"

# Attributes that say the same, the current name first.
CONVERSATIONS: Final = (CONVERSATION, "session.id")
USERS: Final = ("user.id", "enduser.id")
MODELS: Final = (
    *("gen_ai.response.model", "gen_ai.request.model", "llm.response.model_name", "llm.model_name"),
    *("llm.request.model_name", "embedding.model_name"),
)
PROVIDERS: Final = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system")
COST: Final = ("llm.cost.total",)
# Those of input and output include the others, by both conventions.
TOKENS: Final[Mapping[str, tuple[str, ...]]] = {
    "input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt"),
    "output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion"),
    "cached_read_tokens": (
        *("gen_ai.usage.cache_read.input_tokens", "llm.token_count.prompt_details.cache_read"),
        "llm.token_count.prompt_details.cache_input",
    ),
    "cached_write_tokens": (
        *("gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens"),
        "llm.token_count.prompt_details.cache_write",
    ),
    "reasoning_tokens": ("gen_ai.usage.reasoning.output_tokens", "llm.token_count.completion_details.reasoning"),
}
# Audio is counted apart in the input and in the output.
AUDIO: Final = (
    ("gen_ai.usage.audio.input_tokens", "llm.token_count.prompt_details.audio"),
    ("gen_ai.usage.audio.output_tokens", "llm.token_count.completion_details.audio"),
)

_MODEL_OPERATIONS: Final = ("chat", "text_completion", "generate_content", "embeddings")
# OpenInference's kinds of spans, and the operation each is.
_KIND: Final = "openinference.span.kind"
_OPERATIONS: Final = {"LLM": "chat", "EMBEDDING": "embeddings", "TOOL": "execute_tool", "AGENT": "invoke_agent"}
# The event of a span that has what is too large for its attributes.
DETAILS: Final = "gen_ai.client.inference.operation.details"
# What is kept elsewhere than with the span. A request's or a response's whole text has the messages once more.
_CONTENT: Final = (INPUT, OUTPUT, INSTRUCTIONS, ARGUMENTS, RESULT, "input.value", "output.value")
_FLAT: Final = ("llm.input_messages.", "llm.output_messages.")


@dataclass(frozen=True)
class Operation:
    """What a span of a model, a tool or an agent says.

    Attributes:
        span: The span.
        kind: What it is the span of.
        name: The operation, such as "chat" or "invoke_agent".
        attributes: All that is known of it, with that of its event of details.
        inputs: The messages that the model was given.
        outputs: Those that it wrote.
        instructions: Those of the inputs that were given apart from the others.
    """

    span: ReadableSpan
    kind: Literal["model", "tool", "other"]
    name: str
    attributes: Mapping[str, Any]
    inputs: list[Message] = field(default_factory=list)
    outputs: list[Message] = field(default_factory=list)
    instructions: list[Message] = field(default_factory=list)

    def first(self, names: Iterable[str]) -> Any:
        """Return the value of the first of these attributes that the span has, or None."""
        return next((self.attributes[name] for name in names if self.attributes.get(name) is not None), None)

    @property
    def started_at(self) -> float:
        """When it began, seconds since the epoch."""
        return (self.span.start_time or 0) / 1e9

    @property
    def ended_at(self) -> float:
        """When it ended, seconds since the epoch."""
        return (self.span.end_time or self.span.start_time or 0) / 1e9

    @property
    def error(self) -> str | None:
        """Why it failed, or None if it did not."""
        named = self.attributes.get("error.type")
        if self.span.status.status_code is not StatusCode.ERROR and named is None:
            return None
        return self.span.status.description or str(named or "the span has no description of its error")

    @property
    def tool(self) -> tuple[str, str, Any, Any]:
        """The tool call's id, the tool's name, the arguments and the result."""
        call = self.first(("gen_ai.tool.call.id", "tool_call.id", "tool.id"))
        name = self.first(("gen_ai.tool.name", "tool.name")) or self.span.name
        arguments = self.first((ARGUMENTS, "input.value"))
        return (
            str(call or span_id(self.span)),
            str(name),
            decoded(arguments),
            decoded(self.first((RESULT, "output.value"))),
        )

    @property
    def remaining(self) -> dict[str, Any]:
        """The attributes without messages, arguments and results."""
        attributes = plain(self.span.attributes or {})
        return {name: attributes[name] for name in attributes if name not in _CONTENT and not name.startswith(_FLAT)}


def operation_of(span: ReadableSpan) -> Operation | None:
    """Return what a span says, or None if it is not about models, tools or agents."""
    attributes = dict(span.attributes or {})
    for event in span.events:
        if event.name == DETAILS:
            attributes |= event.attributes or {}
    kind = attributes.get(_KIND)
    name = attributes.get(OPERATION) or _OPERATIONS.get(str(kind)) or (str(kind).lower() if kind else None)
    if name is None:
        return None
    if name == "execute_tool":
        return Operation(span, "tool", str(name), attributes)
    if name not in _MODEL_OPERATIONS:
        return Operation(span, "other", str(name), attributes)
    instructions = structured_messages(decoded(attributes.get(INSTRUCTIONS)), role="system")
    return Operation(
        span,
        "model",
        str(name),
        attributes,
        inputs=structured_messages(decoded(attributes.get(INPUT))) or flat_messages(attributes, "llm.input_messages."),
        outputs=structured_messages(decoded(attributes.get(OUTPUT)))
        or flat_messages(attributes, "llm.output_messages."),
        instructions=instructions,
    )


def span_id(span: ReadableSpan) -> str:
    """Return a span's id, 16 hexadecimal digits."""
    return f"{span.context.span_id:016x}" if span.context else ""


def trace_id(span: ReadableSpan) -> str:
    """Return the id of a span's trace, 32 hexadecimal digits."""
    return f"{span.context.trace_id:032x}" if span.context else ""


def plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as JSON has them: with lists instead of tuples."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in attributes.items()}


def decoded(value: Any) -> Any:
    """Return what an attribute holds: attributes that hold more than a text hold it as JSON."""
    if not isinstance(value, str) or not value.startswith(("{", "[")):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
