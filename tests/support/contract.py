"""What the contract tests have in common."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql import ContextKey, ContextUpdate, Feature, Store, TaskContext
from taskctx_sql.model import Delta, Run, StoredUpdate

RETURNED_WITHIN: Final = 5.0


def new_run(saves: int = 1, **more: Any) -> Run:
    return Run(run_id=str(uuid.uuid4()), saves=saves, started_at=time.time(), **more)


def new_delta(key: ContextKey, *datas: Any, base: Any = None, run: Run | None = None, **more: Any) -> Delta:
    """A delta that appends updates with these data."""
    updates = [ContextUpdate(1_700_000_000.25 + place, "message", data, {}) for place, data in enumerate(datas)]
    return Delta(key=key, run=run or new_run(), base=base, at=time.time(), updates=updates, **more)


async def stored(store: Store, key: ContextKey) -> list[Any]:
    """The data of the history as the store holds it."""
    return [row.update.data for row in (await store.load(key)).updates]


async def all_rows(store: Store, key: ContextKey, **bounds: Any) -> list[StoredUpdate]:
    return [row async for row in store.updates(key, **bounds)]


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
    until = time.monotonic() + RETURNED_WITHIN
    while (out := int(pool.checkedout())) and time.monotonic() < until:  # noqa: ASYNC110 - a pool tells no event
        await asyncio.sleep(0.01)
    return out
