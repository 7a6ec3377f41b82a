"""What the contract tests have in common."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql import Feature, Store, TaskContext
from taskctx_sql.testing import all_rows as all_rows
from taskctx_sql.testing import new_delta as new_delta
from taskctx_sql.testing import new_run as new_run
from taskctx_sql.testing import stored as stored
from tests.support.waiting import SOON


async def loaded(store: Store, user: str, chat: str = "c1", **more: Any) -> TaskContext:
    """A context of the store, loaded."""
    context = TaskContext({"user_id": user, "chat_id": chat}, store=store, **more)
    await context.load()
    return context


async def expect_reload(store: Store, context: TaskContext) -> None:
    """What a reload gives is what was in memory when the save returned."""
    again = await loaded(store, context.user_id, context.chat_id)
    expected, found = context.to_dict(), again.to_dict()
    if Feature.METADATA not in store.features:
        expected["metadata"] = {}
    if Feature.TRACKERS not in store.features:
        del expected["file_tracker"], expected["model_tracker"], found["file_tracker"], found["model_tracker"]
    else:
        assert list(found["file_tracker"]) == list(expected["file_tracker"])
    assert found == expected


async def never_returned(engine: AsyncEngine) -> int:
    """How many connections the pool misses, also after a while. Ask before the engine is disposed of: then it forgets.

    Right after a save one may well be out, since those who watch are told apart from it.
    """
    pool: Any = engine.pool
    until = time.monotonic() + SOON
    while (out := int(pool.checkedout())) and time.monotonic() < until:  # noqa: ASYNC110 - a pool tells no event
        await asyncio.sleep(0.01)
    return out
