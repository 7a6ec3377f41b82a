"""The updates and model uses that every integration writes, so that one report shows what any framework did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from taskctx_sql import ContextKey, ContextUpdate, Store, prices

# The types of updates. The data of each is the framework's own JSON, so that it comes back exactly.
MESSAGE: Final = "message"
TOOL_CALL: Final = "tool_call"
TOOL_RESULT: Final = "tool_result"
REASONING: Final = "reasoning"
CHECKPOINT: Final = "checkpoint"
EVENT: Final = "event"
ERROR: Final = "error"
# One agent hands the task to another: {"from": name, "to": name}.
HANDOFF: Final = "handoff"

Role = Literal["user", "assistant", "system", "tool"]
# What `Store.write` takes as an update: its type, data and metadata.
Update = tuple[str, Any, dict[str, Any]]


def update(
    framework: str,
    update_type: str,
    data: Any,
    *,
    role: Role | None = None,
    call_id: str | None = None,
    name: str | None = None,
    error: str | None = None,
) -> Update:
    """Return an update as all integrations write it.

    Args:
        framework: The framework's name, such as "openai_agents".
        update_type: One of the types above.
        data: The framework's own JSON of the item.
        role: Whose message it is.
        call_id: The id of the tool call that a call or a result belongs to. The two share it as their "group", so that
            they are loaded together, and a call without a result is listed as open.
        name: The name of the tool that is called.
        error: Why the tool call failed.
    """
    given = {"role": role, "group": call_id, "name": name, "error": error}
    return (
        update_type,
        data,
        {"framework": framework} | {field: text for field, text in given.items() if text is not None},
    )


def tool_call(framework: str, call_id: str, name: str, arguments: Any) -> Update:
    """Return the update for one tool call of a message that holds several, beside the message itself."""
    return update(framework, TOOL_CALL, {"name": name, "arguments": arguments}, call_id=call_id, name=name)


def is_item(update: ContextUpdate) -> bool:
    """Return whether an update is a framework's own, and not a result by which `Store.close_calls` ended a call."""
    return "closed" not in update.metadata


async def items(store: Store, key: ContextKey, types: Sequence[str], *, limit: int | None = None) -> list[Any]:
    """Return the data of a context's updates that are a framework's own, oldest first: of all, or of the newest.

    Args:
        store: Where.
        key: The context.
        types: The types of updates that are the framework's.
        limit: How many at the most; None for all.

    Raises:
        StoreError: The store failed.
    """
    found = await store.data(key, types=types, limit=limit)
    # The data alone is read in half the time, and what may be the result of a closed call is rare.
    if not any(isinstance(data, dict) and data.keys() == {"error"} for data in found):
        return found
    found = []
    async for stored in store.updates(key, types=types, newest_first=True):
        if is_item(stored.update):
            found.append(stored.update.data)
        if len(found) == limit:
            break
    return found[::-1]


def model_use(
    model_id: str,
    provider_id: str,
    mode: str,
    *,
    timestamp: float,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    cached_read_tokens: int | None = None,
    cached_write_tokens: int | None = None,
    reasoning_tokens: int | None = None,
    audio_tokens: int | None = None,
    cost: float | None = None,
    duration: float | None = None,
) -> dict[str, Any]:
    """Return a use of a model, as `Store.write` takes it.

    Args:
        model_id: The model, as its provider names it.
        provider_id: The provider.
        mode: The purpose, such as the agent's name.
        timestamp: When it was called, seconds since the epoch, UTC.
        input_tokens: The tokens it read, with those from and to the cache and those of audio.
        output_tokens: The tokens it wrote, with those of reasoning.
        cached_read_tokens: Those of the input that came from the cache.
        cached_write_tokens: Those of the input that went to the cache.
        reasoning_tokens: Those of the output that were reasoning.
        audio_tokens: Those of both that were audio.
        cost: The cost that the framework reports, in US dollars; without one, it is estimated where `prices` can.
        duration: The duration in seconds.
    """
    measured = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cached_read_tokens": cached_read_tokens,
        "cached_write_tokens": cached_write_tokens,
        "reasoning_tokens": reasoning_tokens,
        "audio_tokens": audio_tokens,
    }
    price = None if cost is not None else prices.estimate(model_id, provider_id, **measured, at=timestamp)
    priced = {"cost": cost} if price is None else {"cost": price.cost, "price_list": price.price_list}
    use = {"model_id": model_id, "provider_id": provider_id, "mode": mode, "timestamp": timestamp}
    known = {**measured, **priced, "duration": duration}
    return use | {name: value for name, value in known.items() if value is not None}
