"""Messages of models, in the form of OpenTelemetry's conventions: a role and parts."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

Message = dict[str, Any]

_TOOL_CALL: Final = "tool_call"
_TOOL_RESPONSE: Final = "tool_call_response"


def structured_messages(value: Any, *, role: str | None = None) -> list[Message]:
    """Return the messages of an attribute that holds them as JSON or as nested values; instructions have parts only."""
    if not isinstance(value, list | tuple) or not value:
        return []
    plain = json.loads(json.dumps(value, default=str))
    if role is not None:
        return [{"role": role, "parts": plain}]
    return [message for message in plain if isinstance(message, dict)]


def flat_messages(attributes: Mapping[str, Any], prefix: str) -> list[Message]:
    """Return the messages that OpenInference spreads over attributes such as ``llm.input_messages.0.message.role``."""
    nested = _nested(attributes, prefix)
    found = []
    for item in nested.values():
        message = item.get("message", {}) if isinstance(item, dict) else {}
        parts: list[Any] = []
        contents = [content.get("message_content", {}) for content in message.get("contents", {}).values()]
        texts = [message["content"]] if message.get("content") else []
        texts += [content["text"] for content in contents if content.get("type") == "text" and "text" in content]
        if "tool_call_id" in message:
            response = "\n".join(map(str, texts))
            parts.append({"type": _TOOL_RESPONSE, "id": message["tool_call_id"], "response": response})
        else:
            parts += [{"type": "text", "content": text} for text in texts]
        parts += [content for content in contents if content.get("type") != "text"]
        parts += [_tool_call(call.get("tool_call", {})) for call in message.get("tool_calls", {}).values()]
        found.append({"role": message.get("role", "user"), "parts": parts})
    return found


def parts_of(message: Message, part_type: str) -> list[dict[str, Any]]:
    """Return the parts of a message that have a type."""
    parts = message.get("parts")
    found = parts if isinstance(parts, list) else []
    return [part for part in found if isinstance(part, dict) and part.get("type") == part_type]


def tool_calls(message: Message) -> list[tuple[str, str, Any]]:
    """Return the tool calls of a message: id, name and arguments."""
    calls = parts_of(message, _TOOL_CALL)
    return [(str(call["id"]), str(call.get("name", "")), call.get("arguments")) for call in calls if call.get("id")]


def tool_responses(message: Message) -> list[tuple[str, Any]]:
    """Return the results of tools in a message: the id of each call and what came of it."""
    found = parts_of(message, _TOOL_RESPONSE)
    return [(str(part["id"]), part.get("response", part.get("result"))) for part in found if part.get("id")]


def digest(message: Message) -> str:
    """Return what two messages share if they say the same; why a message ended is not repeated when it is sent back."""
    said = {name: value for name, value in message.items() if name != "finish_reason"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def occurrences(messages: Iterable[Message]) -> list[tuple[str, int]]:
    """Return each message's digest, and how many equal ones there are before it."""
    counts: dict[str, int] = {}
    found = []
    for name in map(digest, messages):
        found.append((name, counts.get(name, 0)))
        counts[name] = counts.get(name, 0) + 1
    return found


def _tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function", {})
    arguments = function.get("arguments")
    # A model may write arguments that are no JSON; they stay the text they are.
    with contextlib.suppress(TypeError, ValueError):
        arguments = json.loads(arguments)
    return {"type": _TOOL_CALL, "id": call.get("id"), "name": function.get("name"), "arguments": arguments}


def _nested(attributes: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return attributes with dots in their names as dictionaries in dictionaries, numbered items in order."""
    nested: dict[str, Any] = {}
    for name, value in attributes.items():
        if name.startswith(prefix):
            *path, last = name.removeprefix(prefix).split(".")
            place = nested
            for step in path:
                place = place.setdefault(step, {})
            place[last] = value
    return _in_order(nested)


def _in_order(nested: dict[str, Any]) -> dict[str, Any]:
    names = sorted(nested, key=lambda name: (0, int(name), "") if name.isdecimal() else (1, 0, name))
    return {name: _in_order(nested[name]) if isinstance(nested[name], dict) else nested[name] for name in names}
