"""The environment and the presets.

| variable | default | allowed |
| --- | --- | --- |
| ``AIECS_TASK_DIR`` | ``./tasks`` | a folder; it need not exist |
| ``AIECS_MAX_CONTEXT_SIZE`` | ``1000`` | a whole number of characters, 1 or more |
| ``AIECS_ENABLE_PERSISTENCE`` | ``true`` | ``true`` or ``false`` |
| ``AIECS_LOG_LEVEL`` | ``INFO`` | ``DEBUG``, ``INFO``, ``WARNING``, ``ERROR`` or ``CRITICAL`` |
| ``TASKCTX_DATABASE_URL`` | none: JSON files in the task folder | an address that ``open_store`` takes |

They are read when they are needed, not at import. What a call passes wins over its variable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypedDict

from taskctx_sql.errors import InvalidSettingError
from taskctx_sql.locations import hidden, installed_schemes, is_address, make_folder, other_scheme

__all__ = [
    "DEFAULT_MAX_CONTEXT_SIZE",
    "DEFAULT_METADATA",
    "DEFAULT_METADATA_TOGGLES",
    "DEFAULT_TASK_DIR",
    "DEVELOPMENT_CONFIG",
    "ENABLE_PERSISTENCE",
    "LOG_LEVEL",
    "MAX_CONTEXT_SIZE",
    "PRODUCTION_CONFIG",
    "TASK_DIR",
    "Config",
    "Settings",
    "validate_config",
]

_ADDRESS: Final = re.compile(r"(sqlite|postgres|postgresql)(\+\w+)?://|json:///.")

LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
DEFAULT_TASK_DIR: Final = "./tasks"
DEFAULT_METADATA: Final[dict[str, Any]] = {}
DEFAULT_METADATA_TOGGLES: Final[dict[str, bool]] = {}
DEFAULT_MAX_CONTEXT_SIZE: Final = 1000


class Config(TypedDict):
    """A preset. Sizes are characters, intervals seconds."""

    task_dir: str
    max_context_size: int
    enable_persistence: bool
    log_level: str
    cleanup_interval: int
    max_history_files: int


PRODUCTION_CONFIG: Final[Config] = {
    "task_dir": "/var/lib/aiecs/tasks",
    "max_context_size": 5000,
    "enable_persistence": True,
    "log_level": "INFO",
    "cleanup_interval": 3600,
    "max_history_files": 100,
}

DEVELOPMENT_CONFIG: Final[Config] = {
    "task_dir": "./tasks",
    "max_context_size": 1000,
    "enable_persistence": False,
    "log_level": "DEBUG",
    "cleanup_interval": 300,
    "max_history_files": 10,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says. ``max_context_size`` is in characters."""

    task_dir: str
    max_context_size: int
    enable_persistence: bool
    log_level: str
    database_url: str | None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read all variables.

        Raises:
            InvalidSettingError: A value is not allowed; it names the variable, the value and what is.
        """
        values = os.environ if environment is None else environment
        return cls(
            task_dir=task_dir(values),
            max_context_size=max_context_size(values),
            enable_persistence=enable_persistence(values),
            log_level=log_level(values),
            database_url=database_url(values),
        )


def task_dir(values: Mapping[str, str] = os.environ) -> str:
    """Return ``AIECS_TASK_DIR``, or its default."""
    found = values.get("AIECS_TASK_DIR", DEFAULT_TASK_DIR)
    if is_address(found):
        raise InvalidSettingError("AIECS_TASK_DIR", hidden(found), "the path of a folder, and no address")
    if not found or "\x00" in found:
        raise InvalidSettingError("AIECS_TASK_DIR", found, "the path of a folder")
    return found


def max_context_size(values: Mapping[str, str] = os.environ) -> int:
    """Return ``AIECS_MAX_CONTEXT_SIZE``, or its default, in characters."""
    found = values.get("AIECS_MAX_CONTEXT_SIZE", str(DEFAULT_MAX_CONTEXT_SIZE))
    try:
        size = int(found)
    except ValueError:
        size = 0
    if size <= 0:
        raise InvalidSettingError("AIECS_MAX_CONTEXT_SIZE", found, "a whole number of characters, 1 or more")
    return size


def enable_persistence(values: Mapping[str, str] = os.environ) -> bool:
    """Return ``AIECS_ENABLE_PERSISTENCE``, or its default, True."""
    found = values.get("AIECS_ENABLE_PERSISTENCE", "true")
    if found.lower() not in ("true", "false"):
        raise InvalidSettingError("AIECS_ENABLE_PERSISTENCE", found, "true or false")
    return found.lower() == "true"


def log_level(values: Mapping[str, str] = os.environ) -> str:
    """Return ``AIECS_LOG_LEVEL``, or its default."""
    found = values.get("AIECS_LOG_LEVEL", "INFO")
    if found not in LOG_LEVELS:
        raise InvalidSettingError("AIECS_LOG_LEVEL", found, f"one of {', '.join(LOG_LEVELS)}")
    return found


def database_url(values: Mapping[str, str] = os.environ) -> str | None:
    """Return ``TASKCTX_DATABASE_URL``, or None."""
    found = values.get("TASKCTX_DATABASE_URL") or None
    if found is not None and not _ADDRESS.match(found) and other_scheme(found) not in installed_schemes():
        allowed = "sqlite:///tasks.db, postgresql://user@host/database or json:///folder"
        raise InvalidSettingError("TASKCTX_DATABASE_URL", hidden(found), allowed)
    return found


def validate_config() -> Settings:
    """Check every variable, make the task folder if it is missing, and return the settings.

    Raises:
        InvalidSettingError: A value is not allowed, or the task folder cannot be made.
    """
    found = Settings.from_environment()
    try:
        make_folder(Path(found.task_dir))
    except OSError as error:
        raise InvalidSettingError("AIECS_TASK_DIR", found.task_dir, f"a folder that can be made ({error})") from error
    return found


# The names of the reference's section 7.2: read at each access.
_MODULE_VALUES: Final = {
    "TASK_DIR": task_dir,
    "MAX_CONTEXT_SIZE": max_context_size,
    "ENABLE_PERSISTENCE": enable_persistence,
    "LOG_LEVEL": log_level,
}


if TYPE_CHECKING:
    TASK_DIR: str
    MAX_CONTEXT_SIZE: int
    ENABLE_PERSISTENCE: bool
    LOG_LEVEL: str
else:

    def __getattr__(name: str) -> Any:
        if name in _MODULE_VALUES:
            return _MODULE_VALUES[name]()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
