"""Contexts of a certain age."""

from __future__ import annotations

import os
from typing import Any

from taskctx_sql import ContextKey, ContextUpdate, JsonStore, Store
from taskctx_sql.model import Delta
from tests.support.contract import new_run

DAY = 86_400.0

NOW = 1_800_000_000.0


async def saved(store: Store, user: str, chat: str, *, at: float, count: int = 3, base: Any = None) -> Any:
    """Save updates, with a file and a model use each, at a time."""
    updates = [ContextUpdate(at, "message", number, {}) for number in range(count)]
    models = [{"model_id": "m", "provider_id": "p", "mode": "x", "timestamp": at} for _ in range(count)]
    delta = Delta(key=ContextKey(user, chat), run=new_run(), base=base, at=at, updates=updates, models=models)
    answer = await store.save(delta)
    if isinstance(store, JsonStore):
        path = store.folder / f"context_history_{chat}.json"
        os.utime(path, (at, at))
    return answer.base


async def chats(store: Store, user: str) -> set[str]:
    return {summary.chat_id for summary in await store.contexts(user)}
