"""Checkpoints that tests put and read."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.base import empty_checkpoint

from taskctx_sql import ContextKey
from taskctx_sql.integrations import identity
from taskctx_sql.integrations.langgraph import ContextSaver


def thread(name: str = "t1", **more: Any) -> Any:
    return {"configurable": {"thread_id": name, "checkpoint_ns": "", **more}}


def key(user: str, name: str = "t1") -> ContextKey:
    return identity.key("langgraph", user, name)


async def put(saver: ContextSaver, config: Any, step: int, *, v: int = 2, **values: Any) -> Any:
    """Put a checkpoint of a format, 4 for that of graphs of today, in which these channels have new values."""
    checkpoint: Any = empty_checkpoint() | {"v": v}
    # The values that the one before has, and their versions.
    before = await saver.aget_tuple(config)
    versions: dict[str, Any] = dict(before.checkpoint["channel_versions"]) if before else {}
    kept = dict(before.checkpoint["channel_values"]) if before else {}
    new: Any = {name: saver.get_next_version(versions.get(name), None) for name in values}
    checkpoint["channel_values"], checkpoint["channel_versions"] = kept | values, versions | new
    return await saver.aput(config, checkpoint, {"source": "loop", "step": step, "parents": {}}, new)


async def values_of(saver: ContextSaver, config: Any) -> dict[str, Any]:
    found = await saver.aget_tuple(config)
    assert found is not None
    return found.checkpoint["channel_values"]
