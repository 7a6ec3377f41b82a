"""The reference's health checks and diagnoses: each returns what it found, and prints nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from taskctx_sql import settings
from taskctx_sql.addresses import file_address, shown_path
from taskctx_sql.context import MemoryContext
from taskctx_sql.errors import TaskContextError
from taskctx_sql.json_files import file_name, parse
from taskctx_sql.opening import is_json_address, json_folder, missing_file, open_store
from taskctx_sql.records import ContextKey, Loaded
from taskctx_sql.resources import Resources
from taskctx_sql.sync import blocking

Level = Literal["ok", "warning", "error"]

# The reference's limits, in characters of str(to_dict()) and in updates.
LARGE_CONTEXT: Final = 5000
LONG_HISTORY: Final = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    message: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found. It is true when nothing is wrong; a warning is nothing wrong."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no error among the findings."""
        return all(finding.level != "error" for finding in self.findings)

    def __bool__(self) -> bool:
        return self.ok


@dataclass(frozen=True, slots=True)
class Performance:
    """How large a context is in memory.

    Attributes:
        context_size: Characters of its dictionary's text.
        history_count: Updates.
        resource_count: Resources not closed yet.
        file_count: Tracked files.
        model_count: Model uses.
        findings: What to do about it, if anything.
    """

    context_size: int
    history_count: int
    resource_count: int
    file_count: int
    model_count: int
    findings: tuple[Finding, ...]


def check_context_health(context: MemoryContext) -> Diagnosis:
    """Check a context's ids, and that its parts are of the types they must be."""
    findings = [
        Finding("error", f"{name} is missing") for name in ("user_id", "chat_id") if not getattr(context, name, None)
    ]
    if not findings:
        try:
            _ = context.key
        except TaskContextError as error:
            findings.append(Finding("error", str(error)))
    expected: dict[str, type] = {
        "context_history": list,
        "resources": dict,
        "file_tracker": dict,
        "model_tracker": list,
        "metadata": dict,
        "metadata_toggles": dict,
    }
    for name, kind in expected.items():
        found = getattr(context, name, None)
        if not isinstance(found, kind):
            findings.append(Finding("error", f"{name} is a {type(found).__name__}, not a {kind.__name__}"))
    return Diagnosis(tuple(findings) or (Finding("ok", "the context is healthy"),))


def monitor_context_performance(context: MemoryContext) -> Performance:
    """Measure a context in memory. It builds the whole dictionary's text, so the cost grows with the history."""
    size = len(str(context.to_dict()))
    findings = []
    if size > LARGE_CONTEXT:
        findings.append(Finding("warning", f"{size} characters is large: consider optimize_context()"))
    if len(context.context_history) > LONG_HISTORY:
        count = len(context.context_history)
        findings.append(Finding("warning", f"{count} updates is many: consider optimize_context() or history_limit"))
    return Performance(
        context_size=size,
        history_count=len(context.context_history),
        resource_count=len(context.resources),
        file_count=len(context.file_tracker),
        model_count=len(context.model_tracker),
        findings=tuple(findings),
    )


def diagnose_history_loading_issue(
    address: str | None = None, *, user_id: str = "test", chat_id: str = "test"
) -> Diagnosis:
    """Find out why a history cannot be loaded. Nothing is changed, not even an unreadable file.

    Args:
        address: What `open_store` takes; without it ``TASKCTX_DATABASE_URL``, or else the task folder.
        user_id: Whose context.
        chat_id: Which chat.
    """
    address = address or settings.database_url() or file_address("json", settings.task_dir())
    try:
        key = ContextKey(user_id, chat_id)
        if is_json_address(address):
            return Diagnosis(tuple(_look_at_file(json_folder(address), key)))
        if (missing := missing_file(address)) is not None:
            reason = f"there is no file {shown_path(missing)}: it is made by the first save"
            return Diagnosis((Finding("error", reason),))
        loaded = blocking(_load(address, key))
    except (TaskContextError, OSError) as error:
        return Diagnosis((Finding("error", str(error)),))
    if loaded.revision == 0:
        return Diagnosis((Finding("error", f"there is no context {key}"),))
    return Diagnosis((Finding("ok", f"{len(loaded.history)} updates load, at revision {loaded.revision}"),))


def diagnose_resource_cleanup_issue() -> Diagnosis:
    """See that a resource whose ``close()`` fails stops no other from being closed."""

    class Probe:
        closed = False

        def __init__(self, *, fails: bool) -> None:
            self.fails = fails

        def close(self) -> None:
            self.closed = True
            if self.fails:
                raise RuntimeError("a failure made for this test")

    failed: list[str] = []
    resources = Resources(report=lambda name, error: failed.append(name))
    probes = [Probe(fails=False), Probe(fails=True)]
    for number, probe in enumerate(probes):
        resources.add(f"probe {number}", probe)
    resources.close_all_here(blocking)
    if failed != ["probe 1"] or not all(probe.closed for probe in probes) or resources.named:
        return Diagnosis((Finding("error", "a failing close() kept another resource open"),))
    return Diagnosis((Finding("ok", "a failing close() is reported, and every other resource is closed"),))


def diagnose_context_optimization_issue() -> Diagnosis:
    """See that optimizing a hundred updates to 50 characters leaves fewer of them."""
    context = MemoryContext({"user_id": "test", "chat_id": "test"})
    for number in range(100):
        context.add_context_update("test", f"data_{number}", {"index": number})
    if not context.optimize_context(max_size=50):
        return Diagnosis((Finding("error", "optimizing removed nothing"),))
    return Diagnosis((Finding("ok", f"optimized: 100 -> {len(context.context_history)} updates"),))


def _look_at_file(folder: Path, key: ContextKey) -> list[Finding]:
    path = folder / file_name(key)
    if not folder.is_dir():
        return [Finding("error", f"the folder {folder} does not exist: it is made by the first save")]
    if not path.exists():
        return [Finding("error", f"there is no {path}: no save was made for this chat_id")]
    try:
        count = len(parse(path.read_text(encoding="utf-8")))
    except PermissionError:
        return [Finding("error", f"{path} may not be read: give its owner the permission")]
    except (ValueError, RecursionError) as error:
        return [Finding("error", f"{path} is not a history ({error}): the next load sets it aside, whole")]
    return [Finding("ok", f"{path} holds {count} updates")]


async def _load(address: str, key: ContextKey) -> Loaded:
    async with open_store(address) as store:
        return await store.load(key)
