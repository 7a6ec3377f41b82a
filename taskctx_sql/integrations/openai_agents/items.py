"""What the items of a session are: messages, calls of tools, their results, and the turns that they make up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from taskctx_sql.integrations import recording
from taskctx_sql.integrations.recording import Role, Update

FRAMEWORK: Final = "openai_agents"
# The types of updates that are items of a session; hooks write others beside them.
ITEM_TYPES: Final = (
    recording.MESSAGE,
    recording.TOOL_CALL,
    recording.TOOL_RESULT,
    recording.REASONING,
    recording.EVENT,
)

_ROLES: Final[dict[object, Role]] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
}
# Types of items that are calls of tools, though their names do not end with "_call".
_OTHER_CALLS: Final = ("mcp_approval_request", "program")
# Calls that are counted by what they do, since they have no name.
_NAMELESS: Final = (
    *("computer_call", "file_search_call", "web_search_call", "code_interpreter_call"),
    *("shell_call", "apply_patch_call"),
)
# A result that the SDK may have without a call.
_SEARCH_RESULT: Final = "tool_search_output"


def update_of(item: Any, error: str | None = None) -> Update:
    """Return an item as an update. Its data is the item itself.

    Args:
        item: An input item of the Responses API.
        error: Why the tool failed whose result it is, where a hook has seen it.
    """
    kind = item_type(item)
    call_id = item.get("call_id") if isinstance(item, Mapping) else None
    call_id = call_id if isinstance(call_id, str) else None
    if kind in _ROLES:
        return recording.update(FRAMEWORK, recording.MESSAGE, item, role=_ROLES[kind])
    if is_call(kind):
        return recording.update(FRAMEWORK, recording.TOOL_CALL, item, call_id=call_id, name=tool_name(item) or kind)
    if kind.endswith("_output"):
        failed = error or ("the tool failed" if item.get("status") == "failed" else None)
        return recording.update(FRAMEWORK, recording.TOOL_RESULT, item, call_id=call_id, error=failed)
    if kind == "reasoning":
        return recording.update(FRAMEWORK, recording.REASONING, item)
    return recording.update(FRAMEWORK, recording.EVENT, item)


def item_type(item: Any) -> str:
    """Return the role of a message, else the type of the item; "other" if it has neither."""
    if not isinstance(item, Mapping):
        return "other"
    role = item.get("role")
    return str(role if role in _ROLES else item.get("type") or "other")


def is_call(kind: str) -> bool:
    """Return whether items of a type are calls of tools."""
    return kind.endswith("_call") or kind in _OTHER_CALLS


def is_user_message(item: Any) -> bool:
    """Return whether an item is a message of the user, with which a turn begins."""
    return item_type(item) == "user"


def tool_name(item: Any) -> str | None:
    """Return the name of the tool that an item belongs to: with its server or namespace; None if there is none."""
    if not isinstance(item, Mapping):
        return None
    kind, name = item.get("type"), item.get("name")
    if kind in ("mcp_call", "mcp_approval_request") and "server_label" in item:
        return ".".join(str(part) for part in (item.get("server_label"), name) if part) or None
    if kind in ("tool_search_call", _SEARCH_RESULT):
        return "tool_search"
    if kind in _NAMELESS:
        return str(kind)
    if name is None:
        return None
    namespace = item.get("namespace")
    # The SDK gives a tool without a namespace its own name as one.
    return str(name) if not namespace or namespace == name else f"{namespace}.{name}"


def result_of(call: Any, text: str) -> dict[str, Any] | None:
    """Return a result for a call without one, in the format of its kind; None for kinds whose result is no text."""
    kind, call_id = item_type(call), call.get("call_id")
    if kind in ("function_call", "custom_tool_call"):
        return {"type": f"{kind}_output", "call_id": call_id, "output": text}
    if kind == "local_shell_call":
        return {"type": "local_shell_call_output", "id": call_id, "call_id": call_id, "output": text}
    if kind == "apply_patch_call":
        return {"type": "apply_patch_call_output", "call_id": call_id, "status": "failed", "output": text}
    if kind == "shell_call":
        output = {"stdout": "", "stderr": text, "outcome": {"type": "timeout"}}
        return {"type": "shell_call_output", "call_id": call_id, "output": [output]}
    return None


def turns(items: Iterable[Any]) -> list[int]:
    """Return the turn of each item: how many messages of the user there are up to it."""
    turn, found = 0, []
    for item in items:
        turn += is_user_message(item)
        found.append(turn)
    return found


def tool_usage(items: Iterable[Any]) -> list[tuple[str, int, int]]:
    """Return (the tool's name, how often it was called, the turn), in the order of the turns."""
    items = list(items)
    counts: dict[tuple[int, str], int] = {}
    searches = {(turn, tool_name(item)) for item, turn in zip(items, turns(items), strict=True) if _is_search(item)}
    for item, turn in zip(items, turns(items), strict=True):
        name = tool_name(item)
        kind = item_type(item)
        found_unasked = kind == _SEARCH_RESULT and (turn, name) not in searches
        if name is not None and (is_call(kind) or found_unasked):
            counts[turn, name] = counts.get((turn, name), 0) + 1
    return [(name, count, turn) for (turn, name), count in counts.items()]


def _is_search(item: Any) -> bool:
    return item_type(item) == "tool_search_call"
