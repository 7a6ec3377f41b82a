"""Contexts to save: filled, and in each state of what is unsaved."""

from __future__ import annotations

from typing import Final

import pytest

from taskctx_sql import Store, TaskContext
from taskctx_sql.errors import StoreFailedError
from tests.support.faults import FaultyStore

STATES: Final = ("clean", "unsaved", "in doubt, written", "in doubt, not written")


def fill(context: TaskContext, count: int = 5) -> None:
    for number in range(count):
        context.add_context_update("message", f"m{number}", {"n": number})


async def in_state(store: Store, user: str, state: str) -> tuple[FaultyStore, TaskContext, list[str]]:
    """A context in a state, what is behind it, and what its history holds."""
    faulty, now = FaultyStore(store), iter(range(1, 1000))
    context = TaskContext({"user_id": user, "chat_id": "c1"}, store=faulty, clock=lambda: float(next(now)))
    context.add_context_update("m", "first")
    await context.save()
    expected = ["first"]
    if state != "clean":
        context.add_context_update("m", "second")
        context.metadata["k"] = 1
        expected.append("second")
    if state.startswith("in doubt"):
        faulty.faults = ["lost before" if "not written" in state else "lost after"]
        with pytest.raises(StoreFailedError):
            await context.save()
        assert context.has_unsaved_changes
    return faulty, context, expected
