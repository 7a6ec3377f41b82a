"""The reference's scenarios and cases over every store, and its defaults."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import taskctx_sql
from taskctx_sql import ContextKey, ContextUpdate, JsonStore, TaskContext, build_context, open_store, task_context
from tests.support import reference
from tests.support.contract import expect_reload


@pytest.fixture
async def environment(kind: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    """A program that knows nothing of us: the environment alone says where its contexts are kept."""
    (tmp_path / "input.pdf").write_bytes(b"%PDF-1.7")
    if kind == "json":
        address = f"json:///{tmp_path}/tasks"
        monkeypatch.setenv("AIECS_TASK_DIR", str(tmp_path / "tasks"))
    else:
        monkeypatch.setenv("TASKCTX_DATABASE_URL", address)
    yield address
    async with open_store(address) as store:
        for user, chat in [
            ("doc_processor_001", "doc_session_abc123"),
            ("data_scientist_001", "ml_pipeline_session"),
            ("user_456", "chat_session_xyz789"),
            ("user_456", "in the block"),
            ("monitor_001", "monitoring_session"),
            ("batch_processor_001", "batch_session_001"),
        ]:
            await store.delete(ContextKey(user, chat))


async def check(address: str, context: TaskContext) -> None:
    async with open_store(address) as store:
        await expect_reload(store, context)


def types(context: Any) -> list[str]:
    history = context["context_history"] if isinstance(context, dict) else context.to_dict()["context_history"]
    return [update["update_type"] for update in history]


async def test_scenario_1_document_processing(environment: str, kind: str, tmp_path: Path) -> None:
    context = await reference.scenario_1()
    assert types(context) == ["message", "file_operation", "model_usage", "resource"]
    assert context.context_history[-1].metadata == {"type": "BufferedReader"}
    assert list(context.resources) == ["pdf_file"]
    if kind == "json":
        # The scenario's own folder, /var/lib/aiecs/tasks, is not for tests to write to.
        context._storage.store = JsonStore(tmp_path / "tasks")
    await context.save()
    await check(environment, context)


async def test_scenario_2_data_science(environment: str) -> None:
    context = await reference.scenario_2()
    assert types(context) == ["message", "file_operation", "model_usage", "message", "model_usage"]
    assert [entry["model_id"] for entry in context.model_tracker] == ["sklearn", "kmeans"]
    assert not context.has_unsaved_changes
    await check(environment, context)


async def test_scenario_3_chatbot(environment: str, kind: str, tmp_path: Path) -> None:
    chat_data = {"user_id": "user_456", "chat_id": "in the block"}
    outside, inside = await reference.scenario_3(chat_data)
    assert types(outside) == ["message", "model_usage", "message", "file_operation"]
    await outside.save()
    await check(environment, outside)
    await check(f"json:///{tmp_path}/chat_tasks" if kind == "json" else environment, inside)
    if kind == "json":
        assert (tmp_path / "chat_tasks" / "context_history_in the block.json").read_text() == "[]"


async def test_case_1_analysis_pipeline(environment: str) -> None:
    found = await reference.data_analysis_pipeline()
    assert found["user_id"] == "analyst_001"
    assert len(found["context_history"]) == 8
    assert list(found["file_tracker"]) == ["sales_data.csv", "analysis_report.xlsx"]


async def test_case_2_monitoring(environment: str) -> None:
    found = await reference.real_time_monitoring()
    assert len(found["file_tracker"]) == 10
    assert len(found["model_tracker"]) == 10
    assert sum(len(str(update["data"])) for update in found["context_history"]) <= 1000
    assert found["context_history"][-1]["data"] == {"path": "monitor_log_9.txt", "operation": "write"}


async def test_case_3_batches(environment: str) -> None:
    found = await reference.batch_processing_manager()
    assert len(found["file_tracker"]) == 10
    context = TaskContext({"user_id": "batch_processor_001", "chat_id": "batch_session_001"})
    await context.load()
    assert context.to_dict()["context_history"] == found["context_history"]
    assert context.file_tracker.keys() == found["file_tracker"].keys()


# Names, signatures and defaults.


def test_a_context_of_nothing_has_the_defaults(tmp_path: Path) -> None:
    context = TaskContext({}, tmp_path)
    assert context.to_dict() == {
        "user_id": "anonymous",
        "chat_id": "none",
        "metadata": {},
        "context_history": [],
        "file_tracker": {},
        "model_tracker": [],
    }
    assert context.start_time is None
    assert context.resources == {}
    assert context.metadata_toggles == {}
    assert context.task_dir == tmp_path


def test_the_signatures_are_the_references() -> None:
    def defaults(function: Any) -> dict[str, Any]:
        return {
            name: parameter.default
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and name != "self"
        }

    required = inspect.Parameter.empty
    # None is the environment's value, or else the reference's default.
    assert defaults(TaskContext.__init__) == {"data": required, "task_dir": None}
    assert defaults(task_context) == {"data": required, "task_dir": None}
    assert defaults(build_context) == {"data": required}
    assert defaults(TaskContext.add_context_update) == {"update_type": required, "data": required, "metadata": None}
    assert defaults(TaskContext.add_resource) == {"name": required, "resource": required}
    expected = {"file_path": required, "operation": required, "source": "task"}
    assert defaults(TaskContext.track_file_operation) == expected
    assert list(defaults(TaskContext.track_model_usage)) == ["model_id", "provider_id", "mode"]
    assert defaults(TaskContext.optimize_context) == {"max_size": None}
    assert defaults(TaskContext.truncate_context_history) == {"timestamp": required}
    assert list(defaults(ContextUpdate.__init__)) == ["timestamp", "update_type", "data", "metadata"]
    assert defaults(TaskContext.to_dict) == defaults(TaskContext.get_active_metadata) == {}


def test_ai_preference_is_merged_into_the_metadata(tmp_path: Path) -> None:
    data = {"metadata": {"a": 1}, "aiPreference": "fast"}
    assert TaskContext(data, tmp_path).metadata == {"a": 1, "aiPreference": "fast"}
    assert data["metadata"] == {"a": 1}


def test_a_toggle_hides_metadata_only_when_it_is_false(tmp_path: Path) -> None:
    toggles = {"a": False, "b": True, "c": 0, "d": None}
    context = TaskContext({"metadata": dict.fromkeys("abcde", 1), "metadata_toggles": toggles}, tmp_path)
    assert list(context.get_active_metadata()) == ["b", "c", "d", "e"]
    assert context.to_dict()["metadata"] == context.get_active_metadata()


def test_build_context_touches_no_store(tmp_path: Path) -> None:
    found = build_context({"user_id": "u", "metadata": {"a": 1}, "metadata_toggles": {"a": False}})
    assert found["user_id"] == "u"
    assert found["metadata"] == {}
    assert list(tmp_path.iterdir()) == []


def test_every_public_name_is_there() -> None:
    for name in taskctx_sql.__all__:
        assert getattr(taskctx_sql, name) is not None
    assert not hasattr(taskctx_sql, "no_such_name")
