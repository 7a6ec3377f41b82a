"""Copies of a context."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from taskctx_sql import Store, TaskContext
from tests.support.contract import loaded, stored


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda context: pickle.loads(pickle.dumps(context))])
async def test_a_copy_is_a_context_without_a_store(
    store: Store, user: str, how: Callable[[TaskContext], TaskContext]
) -> None:
    context = await loaded(store, user)
    context.add_context_update("m", {"a": [1]})
    context.track_file_operation("f", "read")
    await context.save()
    copied = how(context)
    assert copied.to_dict() == context.to_dict()
    copied.add_context_update("m", "only in the copy")
    copied.optimize_context(10_000)
    copied.file_tracker["g"] = {"operation": "write"}
    await copied.save()
    assert "only in the copy" not in await stored(store, context.key)
    assert "g" not in context.file_tracker
    assert not context.has_unsaved_changes


class Named(TaskContext):
    """A program's own context, which is made in its own way."""

    def __init__(self, name: str, **given: Any) -> None:
        super().__init__({"chat_id": name}, **given)
        self.parts = [name]


COPIES = pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda context: pickle.loads(pickle.dumps(context))])


@COPIES
async def test_a_copy_has_what_a_program_added_to_the_context(
    store: Store, user: str, how: Callable[[Named], Named]
) -> None:
    context = Named("c1", store=store)
    context.user_id = user
    context.note = {"of": "the program"}  # type: ignore[attr-defined]
    await context.save()
    copied = how(context)
    assert vars(copied)["note"] == {"of": "the program"}
    assert (type(copied), copied.parts, copied.user_id) == (Named, ["c1"], user)
    copied.add_context_update("m", "only in the copy")
    assert await stored(store, context.key) == []


@pytest.mark.parametrize("how", [copy.deepcopy, lambda context: pickle.loads(pickle.dumps(context))])
def test_a_copy_of_what_contains_itself_contains_itself(how: Callable[[Any], Any]) -> None:
    context = TaskContext({}, database_url="sqlite://")
    context.metadata["context"] = context
    context.add_context_update("m", {})
    update = context.context_history[0]
    update.data["update"], update.data["context"] = update, context
    context.track_file_operation("f", "read")
    context.file_tracker["f"]["in"] = [context.file_tracker["f"]]
    context.track_model_usage("m", "p", "x")
    context.model_tracker[0]["in"] = {"itself": context.model_tracker[0]}
    copied = how(context)
    again = copied.context_history[0]
    assert copied.metadata["context"] is again.data["context"] is copied
    assert again.data["update"] is again
    assert [item["operation"] for item in copied.file_tracker["f"]["in"]] == ["read"]
    assert copied.model_tracker[0]["in"]["itself"]["mode"] == "x"
    again = how(context.context_history)[0]
    assert again.data["update"] is again
    assert how(context.file_tracker)["f"]["in"][0]["operation"] == "read"
    assert how(context.model_tracker)[0]["in"]["itself"]["mode"] == "x"
