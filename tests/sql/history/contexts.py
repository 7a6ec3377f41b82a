"""Contexts with a past, and what is seen of them."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest

from taskctx_sql import ContextKey, Store, TaskContext
from tests.support.contract import loaded


async def grown(store: Store, user: str, saves: int = 4) -> TaskContext:
    """A context with an update, a file and a model use in each of its revisions, and changing metadata."""
    context = await loaded(store, user)
    for number in range(1, saves + 1):
        context.add_context_update("message", number)
        context.track_file_operation(f"f{number % 2}", f"op{number}")
        context.track_model_usage(f"m{number}", "p", "x", cost=1.0)
        context.metadata["number"] = number
        context.metadata_toggles[f"t{number}"] = False
        await context.save()
    return context


def state(context: TaskContext) -> Any:
    return context.to_dict(), list(context.file_tracker), context.metadata, context.metadata_toggles


def messages(context: TaskContext) -> list[Any]:
    return [update.data for update in context.context_history if update.update_type == "message"]


async def unchanged(store: Store, key: ContextKey, refused: Awaitable[Any], error: type[Exception]) -> Exception:
    """The call is refused with this error, and the stored context is unchanged."""
    before = [row.seq for row in (await store.load(key)).updates], (await store.load(key)).revision
    with pytest.raises(error) as caught:
        await refused
    assert ([row.seq for row in (await store.load(key)).updates], (await store.load(key)).revision) == before
    return caught.value
