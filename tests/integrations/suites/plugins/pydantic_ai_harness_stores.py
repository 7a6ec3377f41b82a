"""Puts our step store in the place of two of the harness's own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from pydantic_ai_harness import step_persistence
from pydantic_ai_harness.step_persistence import _capability

from taskctx_sql import open_store
from taskctx_sql.integrations.pydantic_ai import ContextStepStore

_STORES = ("InMemoryStepStore", "SqliteStepStore")


def _opening(name: str) -> Callable[..., Any]:
    async def call(self: Any, *args: Any, **given: Any) -> Any:
        async with open_store(os.environ["TASKCTX_SUITE_DATABASE_URL"]) as store:
            return await getattr(ContextStepStore(store, **self.options), name)(*args, **given)

    return call


class _Steps:
    """Our store, opened anew for each call, so that it knows only what is stored."""

    def __init__(self, *, database: Any = None, media_store: Any = None, **options: Any) -> None:
        options.pop("connection", None)
        # What has no database of its own is empty.
        user = uuid.uuid4().hex if database is None else str(database)
        self.options = {
            "user_id": user[-255:],
            "media_store": None if media_store == "auto" else media_store,
            **options,
        }


for _name in dir(ContextStepStore):
    if not _name.startswith("_") and _name != "key":
        setattr(_Steps, _name, _opening(_name))
for _store in _STORES:
    setattr(step_persistence, _store, _Steps)
_capability.InMemoryStepStore = _Steps


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Only those of a store that is replaced.
    items[:] = [item for item in items if set(_STORES) & set(item.function.__code__.co_names)]
