"""Health checks of a context, and diagnoses. They return their findings and print nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from taskctx_sql import settings
from taskctx_sql.concurrency import blocking
from taskctx_sql.context import MemoryContext
from taskctx_sql.errors import TaskContextError
from taskctx_sql.json_files import file_name, parse
from taskctx_sql.locations import file_address, is_json_address, json_folder, missing_file, shown_path
from taskctx_sql.maintenance.self_checks import diagnose_context_optimization_issue, diagnose_resource_cleanup_issue
from taskctx_sql.model import ContextKey, Diagnosis, Finding, Level, Loaded
from taskctx_sql.opening import open_store
from taskctx_sql.plain_text import counted

__all__ = [
    "Diagnosis",
    "Finding",
    "Performance",
    "check_context_health",
    "diagnose_context_optimization_issue",
    "diagnose_history_loading_issue",
    "diagnose_resource_cleanup_issue",
    "monitor_context_performance",
]

# The reference's limits, in characters of str(to_dict()) and in updates.
LARGE_CONTEXT: Final = 5000
LONG_HISTORY: Final = 100


@dataclass(frozen=True, slots=True)
class Performance:
    """How large a context is in memory.

    Attributes:
        context_size: The length of the text of its dictionary, in characters.
        history_count: How many updates it has.
        resource_count: How many resources are not closed yet.
        file_count: How many files it tracks.
        model_count: How many model uses it has.
        findings: What to do about its size, if anything.
    """

    context_size: int
    history_count: int
    resource_count: int
    file_count: int
    model_count: int
    findings: tuple[Finding, ...]


def check_context_health(context: MemoryContext) -> Diagnosis:
    """Check a context's ids, and the types of its parts."""
    findings = [
        Finding("context", "error", f"{name} is missing")
        for name in ("user_id", "chat_id")
        if not getattr(context, name, None)
    ]
    if not findings:
        try:
            _ = context.key
        except TaskContextError as error:
            findings.append(Finding("context", "error", str(error)))
    expected: dict[str, type] = {
        "context_history": list,
        "resources": dict,
        "file_tracker": dict,
        "model_tracker": list,
        "metadata": dict,
        "metadata_toggles": dict,
    }
    for name, kind in expected.items():
        value = getattr(context, name, None)
        if not isinstance(value, kind):
            findings.append(Finding("context", "error", f"{name} is a {type(value).__name__}, not a {kind.__name__}"))
    return Diagnosis(tuple(findings) or (Finding("context", "ok", "the context is healthy"),))


def monitor_context_performance(context: MemoryContext) -> Performance:
    """Measure a context in memory. The cost grows with the history, since the text of the whole dictionary is built."""
    size, count = len(str(context.to_dict())), len(context.context_history)
    warnings = []
    if size > LARGE_CONTEXT:
        warnings.append(f"{size} characters are many: consider optimize_context()")
    if count > LONG_HISTORY:
        warnings.append(f"{count} updates are many: consider optimize_context() or history_limit")
    return Performance(
        context_size=size,
        history_count=count,
        resource_count=len(context.resources),
        file_count=len(context.file_tracker),
        model_count=len(context.model_tracker),
        findings=tuple(Finding("size", "warning", warning) for warning in warnings),
    )


def diagnose_history_loading_issue(
    database_url: str | None = None, *, user_id: str = "test", chat_id: str = "test", schema: str | None = None
) -> Diagnosis:
    """Find out why a history cannot be loaded. Nothing is changed, not even an unreadable file.

    Args:
        database_url: A URL that `open_store` takes; by default ``TASKCTX_DATABASE_URL``, or else the task folder.
        user_id: The context's user.
        chat_id: The context's chat.
        schema: On Postgres, the schema of the tables.
    """
    url = database_url or settings.database_url() or file_address("json", settings.task_dir())
    try:
        level, message = _check_history(url, ContextKey(user_id, chat_id), schema)
    except (TaskContextError, OSError) as error:
        level, message = "error", str(error)
    return Diagnosis((Finding("history", level, message),))


def _check_history(url: str, key: ContextKey, schema: str | None) -> tuple[Level, str]:
    if is_json_address(url):
        return _check_file(json_folder(url), key)
    if (missing := missing_file(url)) is not None:
        return "error", f"there is no file {shown_path(missing)}: the first save creates it"
    loaded = blocking(_load(url, key, schema))
    if loaded.revision == 0:
        return "error", f"there is no context {key}"
    return "ok", f"loaded {counted(len(loaded.history), 'update')}, at revision {loaded.revision}"


def _check_file(folder: Path, key: ContextKey) -> tuple[Level, str]:
    path = folder / file_name(key)
    if not folder.is_dir():
        return "error", f"the folder {folder} does not exist: the first save creates it"
    if not path.exists():
        return "error", f"there is no {path}: nothing was saved for this chat_id"
    try:
        return "ok", f"{path} holds {counted(len(parse(path.read_text(encoding='utf-8'))), 'update')}"
    except PermissionError:
        return "error", f"{path} is not readable: give its owner the permission"
    except (ValueError, RecursionError) as error:
        return "error", f"{path} is not a history ({error}): the next load sets it aside, whole"


async def _load(database_url: str, key: ContextKey, schema: str | None) -> Loaded:
    async with open_store(database_url, schema=schema) as store:
        return await store.load(key)
