"""What an entry of a Claude transcript is in the record: an update, rows for its tool calls, and a model use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from taskctx_sql import ContextUpdate
from taskctx_sql.integrations import recording

FRAMEWORK: Final = "claude_agent_sdk"
# An entry is an update of one of these types, whose data is the entry; what is derived from it has other types.
ENTRY_TYPES: Final = ("message", "event")

_PROVIDER: Final = "anthropic"
# The model that Claude Code names in messages of its own, which no model wrote.
_NO_MODEL: Final = "<synthetic>"
_LONGEST_ERROR: Final = 1000

Entry = Mapping[str, Any]


def updates_of(entry: Entry, now: float) -> list[ContextUpdate]:
    """Return the entry as an update, followed by a small one for each tool call, tool result and error in it.

    Args:
        entry: A line of the transcript.
        now: The time of an entry that has none, seconds since the epoch.
    """
    role = message_of(entry).get("role")
    updates = [recording.update(FRAMEWORK, "message" if role else "event", entry, role=role)]
    for block in blocks_of(entry):
        if block.get("type") == "tool_use":
            updates.append(recording.tool_call(FRAMEWORK, block["id"], block["name"], block.get("input")))
        elif block.get("type") == "tool_result":
            failed = bool(block.get("is_error"))
            error = text_of(block.get("content"))[:_LONGEST_ERROR] if failed else None
            call = block["tool_use_id"]
            updates.append(recording.update(FRAMEWORK, "tool_result", {"is_error": failed}, call_id=call, error=error))
    if error := error_of(entry):
        updates.append(recording.update(FRAMEWORK, "error", {"error": error}, error=error))
    return [ContextUpdate(time_of(entry) or now, *update) for update in updates]


def model_uses(entries: Iterable[Entry], counted: Sequence[str], now: float) -> dict[str, dict[str, Any]]:
    """Return the model uses by the ids of their messages.

    Claude Code writes an entry for each block of a message, and repeats the usage of the whole message in each. The
    last of them counts, since earlier ones may have been written before the message was complete.

    Args:
        entries: Lines of the transcript, in order.
        counted: The ids of messages that earlier entries belonged to, which are left out.
        now: The time of an entry that has none, seconds since the epoch.
    """
    uses = {}
    for entry in entries:
        message = message_of(entry)
        usage, name, model = message.get("usage"), message.get("id"), message.get("model")
        if not (isinstance(usage, Mapping) and isinstance(name, str) and isinstance(model, str)):
            continue
        if model != _NO_MODEL and name not in counted:
            uses[name] = _model_use(model, usage, entry.get("costUSD"), time_of(entry) or now)
    return uses


def _model_use(model: str, usage: Entry, cost: Any, at: float) -> dict[str, Any]:
    read, written = _count(usage, "cache_read_input_tokens"), _count(usage, "cache_creation_input_tokens")
    tokens = {
        # Anthropic counts the tokens of its cache beside the others; our input tokens include them.
        "input_tokens": _count(usage, "input_tokens") + read + written,
        "output_tokens": _count(usage, "output_tokens"),
        "cached_read_tokens": read,
        "cached_write_tokens": written,
    }
    known_cost = float(cost) if isinstance(cost, int | float) else None
    return recording.model_use(model, _PROVIDER, "chat", timestamp=at, cost=known_cost, **tokens)


def error_of(entry: Entry) -> str | None:
    """Return what the model's provider answered instead of a message, or None."""
    if entry.get("isApiErrorMessage") is not True:
        return None
    return text_of(message_of(entry).get("content"))[:_LONGEST_ERROR] or "the request to the model failed"


def title_of(entries: Iterable[Entry]) -> tuple[str | None, bool]:
    """Return the title that these entries give the session, or None, and whether it is the user's."""
    for field, is_users in (("customTitle", True), ("aiTitle", False)):
        titles = [title for entry in entries if isinstance(title := entry.get(field), str) and title]
        if titles:
            return titles[-1][:255], is_users
    return None, False


def time_of(entry: Entry) -> float | None:
    """Return when the entry was written, seconds since the epoch, or None if it does not say."""
    try:
        return datetime.fromisoformat(entry["timestamp"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None


def message_of(entry: Entry) -> Entry:
    """Return the message of an entry, empty if it has none."""
    message = entry.get("message")
    return message if isinstance(message, Mapping) else {}


def blocks_of(entry: Entry) -> list[Entry]:
    """Return the blocks of an entry's message; there are none if it is a mere text."""
    content = message_of(entry).get("content")
    return [block for block in content if isinstance(block, Mapping)] if isinstance(content, list) else []


def text_of(content: Any) -> str:
    """Return the text of a message's or a tool result's content."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(str(part.get("text", "")) for part in parts if isinstance(part, Mapping))


def _count(usage: Entry, name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) else 0
