"""The environment and the presets."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskctx_sql import settings
from taskctx_sql.errors import InvalidSettingError
from taskctx_sql.settings import (
    DEFAULT_MAX_CONTEXT_SIZE,
    DEFAULT_METADATA,
    DEFAULT_METADATA_TOGGLES,
    DEFAULT_TASK_DIR,
    DEVELOPMENT_CONFIG,
    PRODUCTION_CONFIG,
    Settings,
    validate_config,
)


def test_the_defaults_are_the_references() -> None:
    assert Settings.from_environment({}) == Settings("./tasks", 1000, True, "INFO", None)
    assert (DEFAULT_TASK_DIR, DEFAULT_MAX_CONTEXT_SIZE) == ("./tasks", 1000)
    assert DEFAULT_METADATA == DEFAULT_METADATA_TOGGLES == {}


def test_the_presets_are_the_references() -> None:
    assert PRODUCTION_CONFIG == {
        "task_dir": "/var/lib/aiecs/tasks",
        "max_context_size": 5000,
        "enable_persistence": True,
        "log_level": "INFO",
        "cleanup_interval": 3600,
        "max_history_files": 100,
    }
    assert DEVELOPMENT_CONFIG == {
        "task_dir": "./tasks",
        "max_context_size": 1000,
        "enable_persistence": False,
        "log_level": "DEBUG",
        "cleanup_interval": 300,
        "max_history_files": 10,
    }


def test_every_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIECS_TASK_DIR", "/x")
    monkeypatch.setenv("AIECS_MAX_CONTEXT_SIZE", "7")
    monkeypatch.setenv("AIECS_ENABLE_PERSISTENCE", "False")
    monkeypatch.setenv("AIECS_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("TASKCTX_DATABASE_URL", "sqlite:///x.db")
    assert Settings.from_environment() == Settings("/x", 7, False, "DEBUG", "sqlite:///x.db")
    assert (settings.TASK_DIR, settings.MAX_CONTEXT_SIZE) == ("/x", 7)
    assert (settings.ENABLE_PERSISTENCE, settings.LOG_LEVEL) == (False, "DEBUG")
    with pytest.raises(AttributeError):
        _ = getattr(settings, "NO_SUCH_NAME")  # noqa: B009  # as a program without types would


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("AIECS_MAX_CONTEXT_SIZE", "0", "1 or more"),
        ("AIECS_MAX_CONTEXT_SIZE", "-5", "1 or more"),
        ("AIECS_MAX_CONTEXT_SIZE", "many", "a whole number of characters"),
        ("AIECS_MAX_CONTEXT_SIZE", "", "a whole number"),
        ("AIECS_ENABLE_PERSISTENCE", "yes", "true or false"),
        ("AIECS_ENABLE_PERSISTENCE", "", "true or false"),
        ("AIECS_LOG_LEVEL", "info", "DEBUG, INFO, WARNING, ERROR, CRITICAL"),
        ("AIECS_LOG_LEVEL", "LOUD", "DEBUG, INFO"),
        ("AIECS_TASK_DIR", "", "the path of a folder"),
        ("TASKCTX_DATABASE_URL", "mysql://me@host/db", "postgresql://user@host/database"),
        ("TASKCTX_DATABASE_URL", "tasks.db", "sqlite:///tasks"),
        ("TASKCTX_DATABASE_URL", "json:folder", "json:///folder"),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_what_is(
    variable: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSettingError, match=allowed) as caught:
        validate_config()
    # An address that cannot be taken apart may have a password anywhere in it.
    shown = "***" if variable == "TASKCTX_DATABASE_URL" else value
    assert (caught.value.variable, caught.value.value) == (variable, shown)
    assert variable in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_a_password_in_a_wrong_address_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKCTX_DATABASE_URL", "mysql://me:hidden@host/db")
    with pytest.raises(InvalidSettingError) as caught:
        validate_config()
    assert "hidden" not in str(caught.value) + caught.value.value


def test_validating_makes_the_task_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIECS_TASK_DIR", str(tmp_path / "a" / "b"))
    assert validate_config().task_dir == str(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_task_folder_that_cannot_be_made_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AIECS_TASK_DIR", str(tmp_path / "file" / "b"))
    with pytest.raises(InvalidSettingError, match="a folder that can be made"):
        validate_config()
