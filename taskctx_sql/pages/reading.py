"""What people read of an update: who says it, its text, the name of its tool. Whatever a framework made of its data."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

# Deeper parts of data are shown as JSON only.
_DEEPEST: Final = 8
# Where frameworks keep the text of a message, in the order in which they are tried.
_TEXT_MEMBERS: Final = (
    "text",
    "content",
    "parts",
    "message",
    "kwargs",
    "thinking",
    "summary",
    "output",
    "result",
    "data",
)
# Members of a message that are parts of their own updates.
_OTHER_PARTS: Final = frozenset(
    {"tool-call", "tool_call", "tool_use", "function_call", "tool-return", "tool_result", "function_response"}
)
_ROLES: Final[Mapping[str, str]] = {
    "user": "user",
    "human": "user",
    "ROLE_USER": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "agent": "assistant",
    "ROLE_AGENT": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
}
_CLOSING: Final = {"{": "}", "[": "]"}
# A text that json.loads refuses, or whose nesting it does not take.
JSON_ERRORS: Final = (ValueError, RecursionError)


def beginning_of(text: str) -> Any:
    """Return the value of which a JSON text is the beginning: what is open at its end is closed.

    Raises:
        ValueError: It is not the beginning of JSON.
        RecursionError: It is nested too deep.
    """
    open_ones, is_string, is_escaped, cut = [], False, False, 0
    # After the cut there may be a half of something; what is open at the cut.
    open_at_cut: list[str] = []
    for place, letter in enumerate(text):
        if is_string:
            if is_escaped:
                is_escaped = False
            elif letter == "\\":
                is_escaped = True
            elif letter == '"':
                is_string = False
        elif letter == '"':
            is_string = True
        elif letter in _CLOSING:
            open_ones.append(letter)
            cut, open_at_cut = place + 1, open_ones[:]
        elif letter in "}]":
            if not open_ones:
                raise ValueError("more is closed than was opened")
            open_ones.pop()
            cut, open_at_cut = place + 1, open_ones[:]
        elif letter == ",":
            cut, open_at_cut = place, open_ones[:]
    if is_string:
        # A text that is cut is worth showing, unless it is a key, or ends in half an escape.
        for shorter in range(7):
            half = text[: len(text) - shorter]
            try:
                return json.loads(f'{half}"{_closed(open_ones)}')
            except JSON_ERRORS:
                continue
    return json.loads(text[:cut] + _closed(open_at_cut))


def _closed(open_ones: Sequence[str]) -> str:
    return "".join(_CLOSING[letter] for letter in reversed(open_ones))


def pretty(value: Any) -> str:
    """Return a JSON value as lines."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def pretty_text(text: str) -> str:
    """Return a JSON text as lines; one that cannot be read as it is."""
    try:
        return pretty(json.loads(text))
    except JSON_ERRORS:
        return text


def role_of(data: Any, metadata: Any) -> str:
    """Return who says a message: "user", "assistant", "system", "tool", or an empty text."""
    message = data.get("message") if isinstance(data, dict) else None
    for part in (metadata, data, message):
        for name in ("role", "type", "kind", "source", "author"):
            said = part.get(name) if isinstance(part, dict) else None
            if isinstance(said, str) and said in _ROLES:
                return _ROLES[said]
    if isinstance(data, dict) and data.get("kind") in ("request", "response"):
        return "user" if data["kind"] == "request" else "assistant"
    return ""


def text_of(value: Any) -> str:
    """Return the text in data, such as that of a message of any framework; an empty one if it has none."""
    return "\n\n".join(part for part in _texts(value, _DEEPEST) if part.strip())


def _texts(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth and isinstance(value, list):
        for part in value:
            yield from _texts(part, depth - 1)
    elif depth and isinstance(value, dict):
        kinds = (value.get(name) for name in ("type", "part_kind", "kind"))
        if any(isinstance(kind, str) and kind in _OTHER_PARTS for kind in kinds):
            return
        for name in _TEXT_MEMBERS:
            if name == "data" and not isinstance(value.get(name), dict):
                # That of an image, and no message's.
                continue
            found = list(_texts(value[name], depth - 1)) if name in value else []
            if any(part.strip() for part in found):
                yield from found
                return


def tool_of(data: Any, metadata: Any) -> str:
    """Return the name of the tool that an update calls; an empty text if it is not said."""
    for part in (metadata, data):
        for name in ("name", "tool_name", "tool"):
            said = part.get(name) if isinstance(part, dict) else None
            if isinstance(said, str):
                return said
    return ""


def arguments_of(data: Any) -> str:
    """Return the arguments of a call on one line: ``query="weather", limit=3``."""
    given = next((data[name] for name in ("arguments", "args", "input") if name in data), None) if _is(data) else None
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except JSON_ERRORS:
            return given
    if not isinstance(given, dict):
        return "" if given is None else one_line(given)
    return ", ".join(f"{name}={one_line(value)}" for name, value in given.items())


def outcome_of(data: Any) -> str:
    """Return what a tool returned on one line."""
    if _is(data) and (
        found := next((data[name] for name in ("error", "result", "output", "content") if name in data), None)
    ):
        return text_of(found) or one_line(found)
    return text_of(data) or one_line(data)


def error_of(data: Any, metadata: Any) -> str:
    """Return the message of an error; an empty text if there is none."""
    for part in (metadata, data):
        said = part.get("error") if isinstance(part, dict) else None
        if said:
            return said if isinstance(said, str) else text_of(said) or one_line(said)
    if isinstance(data, dict) and isinstance(data.get("message"), str):
        return str(data["message"])
    return text_of(data)


def file_of(data: Any) -> str:
    """Return what was done to a file: ``write report.txt``."""
    parts = (data.get("operation"), data.get("path")) if isinstance(data, dict) else (data,)
    return " ".join(part if isinstance(part, str) else one_line(part) for part in parts if part is not None)


def model_of(data: Any) -> str:
    """Return which model was used, and for what."""
    parts = (data.get("model_id"), data.get("mode")) if isinstance(data, dict) else (data,)
    return " · ".join(part if isinstance(part, str) else one_line(part) for part in parts if part is not None)


def one_line(value: Any) -> str:
    """Return a JSON value on one line."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def _is(data: Any) -> bool:
    return isinstance(data, dict)
