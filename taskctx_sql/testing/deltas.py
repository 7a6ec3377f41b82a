"""What tests of a store save, and how they look at what it holds."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import Any

from taskctx_sql.model import ContextKey, ContextUpdate, Delta, Run, StoredUpdate
from taskctx_sql.stores import ContextStore


def new_run(saves: int = 1, **more: Any) -> Run:
    """Return a run of its own, at its first save.

    Args:
        saves: Which of its saves it is at instead.
        more: Other attributes of `Run`.
    """
    return Run(run_id=str(uuid.uuid4()), saves=saves, started_at=time.time(), **more)


def new_delta(key: ContextKey, *datas: Any, base: Any = None, run: Run | None = None, **more: Any) -> Delta:
    """Return a delta that appends a message for each of these data.

    Args:
        key: The context.
        datas: The data, in order.
        base: What the last load or save returned as its base.
        run: Who saves; a run of its own by default.
        more: Other attributes of `Delta`.
    """
    updates = [ContextUpdate(1_700_000_000.25 + place, "message", data, {}) for place, data in enumerate(datas)]
    return Delta(key=key, run=run or new_run(), base=base, at=time.time(), updates=updates, **more)


def delta_of(key: ContextKey, *updates: ContextUpdate, **more: Any) -> Delta:
    """Return a delta that appends these updates; see `new_delta`."""
    return replace(new_delta(key, **more), updates=list(updates))


async def stored(store: ContextStore, key: ContextKey) -> list[Any]:
    """Return the data of the history as the store holds it."""
    return [row.update.data for row in (await store.load(key)).updates]


async def all_rows(store: ContextStore, key: ContextKey, **bounds: Any) -> list[StoredUpdate]:
    """Return all updates of a context, read page by page; ``bounds`` are those of `ContextStore.updates`."""
    return [row async for row in store.updates(key, **bounds)]
