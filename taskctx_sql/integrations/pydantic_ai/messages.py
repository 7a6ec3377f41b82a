"""Pydantic AI's messages as updates and model uses, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from pydantic_ai.messages import (
    BaseToolCallPart,
    BaseToolReturnPart,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    SystemPromptPart,
    UserPromptPart,
)

from taskctx_sql import ContextUpdate
from taskctx_sql.integrations import recording

FRAMEWORK: Final = "pydantic_ai"


def messages_of(updates: Iterable[ContextUpdate]) -> list[ModelMessage]:
    """Return the messages that updates of the type "message" are."""
    return ModelMessagesTypeAdapter.validate_python([update.data for update in updates])


def data_of(messages: list[ModelMessage]) -> list[dict[str, Any]]:
    """Return messages as JSON, with bytes as base64; this is what Pydantic AI itself keeps."""
    data: list[dict[str, Any]] = ModelMessagesTypeAdapter.dump_python(messages, mode="json")
    return data


def updates_of(message: ModelMessage, data: dict[str, Any], at: float) -> list[ContextUpdate]:
    """Return the update that is a message, and those that note its tool calls and their results.

    Args:
        message: The message.
        data: The message as JSON.
        at: The time of a message that has none itself, seconds since the epoch, UTC.
    """
    written = [recording.update(FRAMEWORK, recording.MESSAGE, data, role=_role_of(message))]
    written += _calls_of(message)
    written += _results_of(message)
    timestamp = message.timestamp.timestamp() if message.timestamp else at
    return [ContextUpdate(timestamp, *update) for update in written]


def model_use_of(message: ModelMessage, mode: str, duration: float | None = None) -> dict[str, Any] | None:
    """Return the use of a model that a response reports, or None for a request.

    Args:
        message: The message.
        mode: The purpose, such as the agent's name.
        duration: The duration in seconds, if it is known.
    """
    if not isinstance(message, ModelResponse):
        return None
    usage = message.usage
    return recording.model_use(
        message.model_name or "unknown",
        message.provider_name or "unknown",
        mode,
        timestamp=message.timestamp.timestamp(),
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_read_tokens=usage.cache_read_tokens,
        cached_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.output_reasoning_tokens,
        audio_tokens=usage.input_audio_tokens + usage.output_audio_tokens,
        cost=None if usage.cost is None else float(usage.cost),
        duration=duration,
    )


def _role_of(message: ModelMessage) -> recording.Role:
    if isinstance(message, ModelResponse):
        return "assistant"
    if any(isinstance(part, UserPromptPart) for part in message.parts):
        return "user"
    return "system" if any(isinstance(part, SystemPromptPart) for part in message.parts) else "tool"


def _calls_of(message: ModelMessage) -> Iterator[recording.Update]:
    for part in message.parts:
        if isinstance(part, BaseToolCallPart):
            yield recording.tool_call(FRAMEWORK, part.tool_call_id, part.tool_name, part.args)


def _results_of(message: ModelMessage) -> Iterator[recording.Update]:
    for part in message.parts:
        if isinstance(part, BaseToolReturnPart):
            error = None if part.outcome == "success" else f"{part.outcome}: {part.content}"
        elif isinstance(part, RetryPromptPart) and part.tool_name:
            error = f"retried: {part.content}"
        else:
            continue
        noted = {"name": part.tool_name}
        yield recording.update(FRAMEWORK, recording.TOOL_RESULT, noted, call_id=part.tool_call_id, error=error)


def starts_with_user(messages: list[ModelMessage]) -> list[ModelMessage]:
    """Return messages from the first one on that a user wrote, since a model refuses the end of a turn alone."""
    for place, message in enumerate(messages):
        if isinstance(message, ModelRequest) and _role_of(message) == "user":
            return messages[place:]
    return []
