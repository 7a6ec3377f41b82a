"""The reference's checks and diagnoses return what they found, and print nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from taskctx_sql import TaskContext, task_context
from taskctx_sql.context import MemoryContext, Resources
from taskctx_sql.health import (
    check_context_health,
    diagnose_context_optimization_issue,
    diagnose_history_loading_issue,
    diagnose_resource_cleanup_issue,
    monitor_context_performance,
)


@pytest.fixture(autouse=True)
def nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> Any:
    yield
    assert capsys.readouterr() == ("", "")


def test_a_healthy_context(tmp_path: Path) -> None:
    found = check_context_health(TaskContext({}, tmp_path))
    assert found
    assert [finding.level for finding in found.findings] == ["ok"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("user_id", "", "user_id is missing"),
        ("chat_id", None, "chat_id is missing"),
        ("chat_id", "x" * 300, "the limit is 255"),
        ("memory.history", (), "context_history is a tuple, not a list"),
        ("resources", [], "resources is a list, not a dict"),
        ("memory.files", [], "file_tracker is a list"),
        ("memory.models", {}, "model_tracker is a dict"),
        ("metadata", None, "metadata is a NoneType"),
    ],
)
def test_what_is_wrong_is_found(tmp_path: Path, name: str, value: Any, message: str) -> None:
    context = TaskContext({}, tmp_path)
    of = context._memory if name.startswith("memory.") else context
    setattr(of, name.removeprefix("memory."), value)
    found = check_context_health(context)
    assert not found
    assert message in found.findings[0].message


def test_a_context_is_measured(tmp_path: Path) -> None:
    context = TaskContext({}, tmp_path)
    context.track_file_operation("a", "read")
    context.track_model_usage("m", "p", "x")
    context.add_resource("r", object())
    found = monitor_context_performance(context)
    assert (found.history_count, found.resource_count, found.file_count, found.model_count) == (3, 1, 1, 1)
    assert found.context_size == len(str(context.to_dict()))
    assert found.findings == ()
    for number in range(100):
        context.add_context_update("message", f"m{number}")
    assert [finding.level for finding in monitor_context_performance(context).findings] == ["warning", "warning"]


def test_a_history_that_loads(address: str, user: str) -> None:
    with task_context({"user_id": user, "chat_id": "c"}, database_url=address) as context:
        context.add_context_update("message", "a")
    found = diagnose_history_loading_issue(address, user_id=user, chat_id="c")
    assert found
    assert "1 update" in found.findings[0].message


def test_a_history_that_is_not_there(address: str, user: str) -> None:
    assert not diagnose_history_loading_issue(address, user_id=user, chat_id="c")


async def test_a_diagnosis_works_inside_a_running_loop(address: str, user: str) -> None:
    assert not diagnose_history_loading_issue(address, user_id=user, chat_id="c")


def test_what_keeps_a_file_from_loading_is_reported_and_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "tasks"
    address = f"json:///{folder}"
    assert "does not exist" in diagnose_history_loading_issue(address).findings[0].message
    folder.mkdir()
    assert "there is no" in diagnose_history_loading_issue(address).findings[0].message
    (folder / "context_history_test.json").write_text("{broken")
    found = diagnose_history_loading_issue(address)
    assert not found
    assert "is not a history" in found.findings[0].message
    assert [path.name for path in folder.iterdir()] == ["context_history_test.json"]


def test_a_database_that_does_not_open_is_reported(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("no database" * 100)
    assert (
        "is not a SQLite database" in diagnose_history_loading_issue(f"sqlite:///{tmp_path}/x.db").findings[0].message
    )


def test_a_diagnosis_makes_no_database(tmp_path: Path) -> None:
    found = diagnose_history_loading_issue(f"sqlite:///{tmp_path}/x.db")
    assert "there is no file" in found.findings[0].message
    assert list(tmp_path.iterdir()) == []


def test_an_invalid_id_is_reported() -> None:
    assert "chat_id" in diagnose_history_loading_issue(chat_id="a\x00b").findings[0].message


def test_closing_and_optimizing_work() -> None:
    assert diagnose_resource_cleanup_issue()
    assert diagnose_context_optimization_issue()


def test_a_closing_that_stops_at_a_failure_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Resources, "close_all_here", lambda self, wait: None)
    assert not diagnose_resource_cleanup_issue()


def test_an_optimizing_that_does_nothing_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryContext, "optimize_context", lambda self, max_size: False)
    assert not diagnose_context_optimization_issue()
