"""aiecs makes contexts of this library, wherever it imports its own, until it gets its own back."""

from __future__ import annotations

import sys
from typing import Any

import aiecs as package
import pytest
from aiecs.domain.context.context_engine import ContextEngine
from aiecs.llm.client_factory import LLMClientManager
from aiecs.llm.clients.base_client import LLMResponse

import taskctx_sql
from taskctx_sql import Store, TaskContext
from taskctx_sql.integrations import aiecs

REQUEST = {"user_id": "ann", "chat_id": "c1", "aiPreference": {"provider": "scripted", "model": "small"}}
SOURCE = "aiecs.domain.task.task_context"
NAMES = ("TaskContext", "ContextUpdate", "task_context", "build_context")


def modules_with(values: list[Any]) -> set[str]:
    """Aiecs' modules that have one of the values, under any name."""
    of_aiecs = {name: module for name, module in list(sys.modules.items()) if name.partition(".")[0] == "aiecs"}
    ids = {id(value) for value in values}
    return {name for name, module in of_aiecs.items() if any(id(value) in ids for value in list(vars(module).values()))}


def test_every_module_of_aiecs_has_our_classes_and_then_its_own_again() -> None:
    source = sys.modules[SOURCE]
    own = [getattr(source, name) for name in NAMES]
    had = modules_with(own)
    assert {"aiecs", "aiecs.aiecs_client", "aiecs.domain.context.context_engine", SOURCE} <= had
    aiecs.install()
    assert modules_with(own) == set()
    assert modules_with([getattr(source, name) for name in NAMES]) == had
    assert issubclass(package.TaskContext, taskctx_sql.TaskContext)
    aiecs.uninstall()
    assert [getattr(source, name) for name in NAMES] == own
    assert modules_with(own) == had


def test_a_module_that_is_imported_later_has_them_too() -> None:
    name = "aiecs.aiecs_client"
    before = sys.modules.pop(name)
    try:
        aiecs.install()
        import aiecs.aiecs_client as later

        assert later is not before
        assert later.TaskContext is aiecs.AiecsTaskContext
        aiecs.uninstall()
        assert later.TaskContext is sys.modules[SOURCE].TaskContext is not aiecs.AiecsTaskContext
    finally:
        sys.modules[name] = before


def test_installing_twice_changes_only_where_contexts_are_kept() -> None:
    own = LLMClientManager.generate_text
    aiecs.install(database_url="sqlite:///one.db")
    aiecs.install(database_url="sqlite:///other.db")
    aiecs.uninstall()
    aiecs.uninstall()
    assert LLMClientManager.generate_text is own


async def test_a_task_of_the_client_is_recorded_with_the_models_tokens_and_cost(opened: Store, user: str) -> None:
    aiecs.install(store=opened)
    client = await package.create_simple_client()
    request = REQUEST | {"user_id": user, "metadata": {"prompt": "how much?"}}
    async with package.TaskContext(request) as context:
        context.add_context_update("message", "how much?", {"role": "user"})
        result = await client.execute(context)
    assert (result["status"], result["response"]) == ("completed", "answer to how much?")
    loaded = await opened.load(context.key)
    assert [stored.update.update_type for stored in loaded.updates] == ["message", "model_usage"]
    (use,) = await opened.reports.models(user_id=user)
    assert (use.model_id, use.provider_id) == ("small", "scripted")
    assert (use.input_tokens, use.output_tokens, use.cost) == (12, 5, 0.25)
    assert loaded.models[0][1]["cached_read_tokens"] == 4
    assert loaded.models[0][1]["duration"] > 0


async def test_the_tokens_of_a_response_are_counted_once(opened: Store, user: str) -> None:
    aiecs.install(store=opened)
    context = package.TaskContext(REQUEST | {"user_id": user})
    await LLMClientManager().generate_text("hi", context=context.to_dict())
    context.track_model_usage("other", "scripted", "generate")
    context.track_model_usage("small", "scripted", "generate")
    context.track_model_usage("small", "scripted", "again")
    assert [use.get("input_tokens") for use in context.model_tracker] == [None, 12, None]


async def test_the_engine_makes_contexts_that_are_saved_in_the_store(opened: Store, user: str) -> None:
    aiecs.install(store=opened)
    engine = ContextEngine()
    await engine.create_session(user, user, {"prompt": "x"})
    async with await engine.get_task_context(user) as context:
        context.track_file_operation("a.py", "edit")
    assert isinstance(context, TaskContext)
    assert [path for _, path, _ in (await opened.load(context.key)).files] == ["a.py"]


async def test_a_context_that_the_engine_rebuilds_has_its_history(opened: Store, user: str) -> None:
    aiecs.install(store=opened)
    made = package.TaskContext(REQUEST | {"user_id": user})
    made.add_context_update("message", "one", {"role": "user"})
    rebuilt = ContextEngine()._reconstruct_task_context(made.to_dict())
    assert [update.data for update in rebuilt.context_history] == ["one"]
    async with rebuilt:
        pass
    assert [stored.update.data for stored in (await opened.load(rebuilt.key)).updates] == ["one"]


async def test_a_context_that_the_engine_rebuilds_is_not_saved_twice(opened: Store, user: str) -> None:
    aiecs.install(store=opened)
    async with package.TaskContext(REQUEST | {"user_id": user}) as saved:
        saved.add_context_update("message", "one", {"role": "user"})
    saved.add_context_update("message", "two", {"role": "user"})
    async with ContextEngine()._reconstruct_task_context(saved.to_dict()) as rebuilt:
        rebuilt.add_context_update("message", "three")
    assert [update.data for update in rebuilt.context_history] == ["one", "two", "three"]
    stored = (await opened.load(rebuilt.key)).updates
    assert [one.update.data for one in stored] == ["one", "two", "three"]


async def test_its_function_opens_and_saves_a_context(opened: Store, user: str) -> None:
    aiecs.install(store=opened)
    async with sys.modules[SOURCE].task_context(REQUEST | {"user_id": user, "tools": ["search"]}) as context:
        context.add_context_update("message", "one")
    assert len((await opened.load(context.key)).updates) == 1


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (
            LLMResponse(
                "", "OpenAI", "m", prompt_tokens=10, completion_tokens=4, cache_read_tokens=6, cost_estimate=1.5
            ),
            {"input_tokens": 10, "output_tokens": 4, "cached_read_tokens": 6, "cost": 1.5},
        ),
        (
            LLMResponse(
                *("", "AnthropicVertex", "m"),
                prompt_tokens=10,
                completion_tokens=4,
                cache_read_tokens=6,
                cache_creation_tokens=2,
            ),
            {"input_tokens": 18, "output_tokens": 4, "cached_read_tokens": 6, "cached_write_tokens": 2},
        ),
        (
            LLMResponse(*("", "Vertex", "m"), tokens_used=17, prompt_tokens=10, completion_tokens=4, thinking_tokens=3),
            {"input_tokens": 10, "output_tokens": 7, "reasoning_tokens": 3},
        ),
        (
            LLMResponse("", "other", "m", prompt_tokens=10, completion_tokens=4, thinking_tokens=3, response_time=0.5),
            {"input_tokens": 10, "output_tokens": 4, "reasoning_tokens": 3, "duration": 0.5},
        ),
        (LLMResponse("", "OpenAI", "m", tokens_used=9, cost_estimate=0.0), {}),
    ],
)
def test_a_response_is_recorded_with_what_it_counted(response: LLMResponse, expected: dict[str, Any]) -> None:
    context = TaskContext({"user_id": "ann", "chat_id": "c1"})
    aiecs.track_llm_response(context, response, "review")
    (use,) = context.model_tracker
    named = {"model_id": "m", "provider_id": response.provider, "mode": "review", "timestamp": use["timestamp"]}
    assert use == named | expected
