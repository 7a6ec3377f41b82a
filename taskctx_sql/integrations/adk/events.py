"""ADK's events as updates and model uses, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from google.adk.events.event import Event
from google.genai import types

from taskctx_sql import ContextUpdate
from taskctx_sql.integrations import recording
from taskctx_sql.integrations.adk.turns import Call

FRAMEWORK: Final = "adk"
# The updates that are events, one each. Calls of tools, their results and errors are noted beside them.
EVENT_TYPES: Final = (recording.MESSAGE, recording.EVENT, recording.CHECKPOINT)


def updates_of(event: Event) -> list[ContextUpdate]:
    """Return the update that is the event, and those that note its tool calls, their results, and its error."""
    # What has its default value is left out; the event comes back equal.
    data = event.model_dump(mode="json", exclude_defaults=True)
    written = [recording.update(FRAMEWORK, _type_of(event), data, role=_role_of(event)), *_calls_of(event)]
    written += _results_of(event)
    if event.error_code:
        error = {"message": event.error_message or event.error_code, "code": event.error_code}
        written.append(recording.update(FRAMEWORK, recording.ERROR, error))
    return [ContextUpdate(event.timestamp, *update) for update in written]


def event_of(update: ContextUpdate) -> Event:
    """Return the event that an update of one of `EVENT_TYPES` is."""
    return Event.model_validate(update.data)


def _type_of(event: Event) -> str:
    if event.actions.compaction is not None:
        return recording.CHECKPOINT
    return recording.MESSAGE if event.content is not None and event.content.parts else recording.EVENT


def _role_of(event: Event) -> recording.Role | None:
    if event.content is None:
        return None
    if event.get_function_responses():
        return "tool"
    return "user" if event.author == "user" else "assistant"


def _calls_of(event: Event) -> Iterator[recording.Update]:
    for call in event.get_function_calls():
        if call.id:
            yield recording.tool_call(FRAMEWORK, call.id, call.name or "", call.args)


def _results_of(event: Event) -> Iterator[recording.Update]:
    for result in event.get_function_responses():
        if result.id:
            error = (result.response or {}).get("error")
            yield tool_result(result.id, result.name, None if error is None else str(error))


def tool_result(call_id: str, name: str | None, error: str | None) -> recording.Update:
    """Return the update that notes a tool's result, which the event itself has."""
    return recording.update(FRAMEWORK, recording.TOOL_RESULT, {"name": name}, call_id=call_id, error=error)


def model_use_of(event: Event, call: Call | None) -> dict[str, Any] | None:
    """Return the use of a model that an event reports, or None.

    Args:
        event: The event, which may have the version of the model that answered.
        call: Which model was asked, and for how long, if that is known.
    """
    model, duration = (None, None) if call is None else (call.model, call.duration)
    usage = event.usage_metadata
    if usage is None:
        return None
    provider, name = _provider_and_name(model or event.model_version or "unknown")
    return recording.model_use(
        event.model_version or name,
        provider,
        event.author,
        timestamp=event.timestamp,
        # ADK counts the tokens of tools' results beside the prompt's, and those of reasoning beside the answer's.
        input_tokens=_sum(usage.prompt_token_count, usage.tool_use_prompt_token_count),
        output_tokens=_sum(usage.candidates_token_count, usage.thoughts_token_count),
        cached_read_tokens=usage.cached_content_token_count,
        reasoning_tokens=usage.thoughts_token_count,
        audio_tokens=_audio([*(usage.prompt_tokens_details or ()), *(usage.candidates_tokens_details or ())]),
        duration=duration,
    )


def _provider_and_name(model: str) -> tuple[str, str]:
    """Return the provider of a model and its name, from "provider/name", a resource of Vertex AI, or a known name."""
    if model.startswith("projects/"):
        return "google", model.rpartition("/")[2]
    provider, slash, name = model.partition("/")
    if slash:
        return provider, name
    known = {"gemini": "google", "gemma": "google", "claude": "anthropic", "gpt": "openai"}
    return next((known[start] for start in known if model.startswith(start)), "unknown"), model


def _sum(*counts: int | None) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _audio(details: Iterable[types.ModalityTokenCount]) -> int | None:
    return _sum(*(count.token_count for count in details if count.modality == types.MediaModality.AUDIO))
