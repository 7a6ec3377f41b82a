"""The rows of the reports; the page "Views" of the docs describes their columns.

Times are in seconds since the epoch, UTC, and as ISO 8601 (``created_utc``), which is None outside of the years 1 to
9999. Durations are in seconds, sizes in bytes. Days are UTC days.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import Field, dataclass, fields
from datetime import date
from typing import Any, Final, Literal, get_args

# Of a run; a task has the first of these that one of its runs has.
Outcome = Literal["failed", "unfinished", "cancelled", "completed"]
OUTCOMES: Final[tuple[Outcome, ...]] = get_args(Outcome)

# Of a call of a tool.
CallOutcome = Literal["open", "completed", "failed"]
CALL_OUTCOMES: Final[tuple[CallOutcome, ...]] = get_args(CallOutcome)


def column_fields(row_type: type[Any]) -> list[Field[Any]]:
    """Return the fields of a row type that are columns of a report, in their order."""
    return [field for field in fields(row_type) if field.metadata.get("is_column", True)]


@dataclass(frozen=True, slots=True)
class Count:
    """A name, and how often it occurs."""

    name: str
    count: int


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run of a context, with the number of its updates. ``outcome`` is "unfinished" if it has no end."""

    run_id: str
    started_at: float
    ended_at: float | None
    outcome: str
    error: str | None
    saves: int
    updates: int

    @property
    def duration(self) -> float | None:
        """The time from start to end in seconds; None if the run has not ended."""
        return None if self.ended_at is None else self.ended_at - self.started_at


def worst_outcome(runs: Iterable[RunReport]) -> Outcome | None:
    """Return the outcome of a task with these runs, as the views have it; None without runs."""
    outcomes = {run.outcome for run in runs}
    return next((outcome for outcome in OUTCOMES if outcome in outcomes), None)


@dataclass(frozen=True, slots=True)
class Task:
    """A context with its totals.

    ``outcome`` is the worst of its runs: failed, unfinished, cancelled or completed, or None if it has none.
    ``first_at``, ``last_at`` and ``duration`` are None without updates.
    """

    context_id: str
    user_id: str
    chat_id: str
    day: date | None
    created_at: float
    created_utc: str | None
    updated_at: float
    updated_utc: str | None
    saves: int
    updates: int
    removed: int
    errors: int
    first_at: float | None
    first_utc: str | None
    last_at: float | None
    last_utc: str | None
    duration: float | None
    runs: int
    failed_runs: int
    files: int
    models: int
    calls: int
    input_tokens: int
    output_tokens: int
    cost: float
    unfinished_runs: int
    cancelled_runs: int
    outcome: str | None
    cached_read_tokens: int
    cached_write_tokens: int
    reasoning_tokens: int
    audio_tokens: int


@dataclass(frozen=True, slots=True)
class TaskRun:
    """A run of a context. ``outcome`` is "unfinished" if it has not ended, or was killed."""

    context_id: str
    user_id: str
    chat_id: str
    run_id: str
    day: date | None
    started_at: float
    started_utc: str | None
    ended_at: float | None
    ended_utc: str | None
    duration: float | None
    outcome: str
    error: str | None
    saves: int
    calls: int
    input_tokens: int
    output_tokens: int
    cost: float
    cached_read_tokens: int
    cached_write_tokens: int
    reasoning_tokens: int
    audio_tokens: int


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """The usage of a model, provider and mode on a day; ``day`` is None for uses without a time.

    ``estimated_cost`` is the part of ``cost`` that was estimated from a list of prices.
    """

    day: date | None
    model_id: str
    provider_id: str
    mode: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost: float
    duration: float
    cached_read_tokens: int
    cached_write_tokens: int
    reasoning_tokens: int
    audio_tokens: int
    estimated_cost: float
    failures: int


@dataclass(frozen=True, slots=True)
class FileActivity:
    """The last operation on a file in a context, its source, and the model used last before it."""

    context_id: str
    user_id: str
    chat_id: str
    path: str
    path_id: str
    operation: str | None
    source: str | None
    state: str | None
    timestamp: float | None
    timestamp_utc: str | None
    day: date | None
    run_id: str
    revision: int
    model_id: str | None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool with its result: an update "tool_call", and the first "tool_result" of its group after it.

    ``outcome`` is "open" without a result, "failed" if the result's metadata has an ``error``, or "completed".
    """

    context_id: str
    user_id: str
    chat_id: str
    seq: int
    call_id: str
    name: str
    day: date | None
    started_at: float | None
    started_utc: str | None
    ended_at: float | None
    ended_utc: str | None
    duration: float | None
    outcome: str
    error: str | None
    run_id: str
    removed: bool


@dataclass(frozen=True, slots=True)
class ToolUsage:
    """The calls of a tool.

    ``retries`` are those that followed a failed call of the tool with the same arguments in the same run.
    ``p50`` and ``p95`` are durations in seconds that half and 95 % of its ended calls did not exceed, or None.
    """

    name: str
    calls: int
    failures: int
    retries: int
    open: int
    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class Activity:
    """The number of updates of a type on a day, and how many of them were removed from the history."""

    day: date | None
    update_type: str
    updates: int
    removed: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Day:
    """What began on a day, and what failed on it; ``errors`` includes the failed runs."""

    day: date | None
    tasks: int
    errors: int
    failed_runs: int


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """An update of the type "error" (``kind`` "update") or a failed run (``kind`` "run", with a seq of 0)."""

    kind: str
    context_id: str
    user_id: str
    chat_id: str
    run_id: str
    seq: int
    day: date | None
    timestamp: float | None
    timestamp_utc: str | None
    message: str
    removed: bool


@dataclass(frozen=True, slots=True)
class ContextSize:
    """The size of a context, and how much happened in it."""

    context_id: str
    user_id: str
    chat_id: str
    day: date | None
    created_at: float
    created_utc: str | None
    updated_at: float
    updated_utc: str | None
    bytes: int
    largest_update: int
    updates: int
    removed: int
    saves: int
    files: int
    runs: int
    state_entries: int


@dataclass(frozen=True, slots=True)
class UserSize:
    """The contexts, the data and the costs of a user."""

    user_id: str
    contexts: int
    updates: int
    removed: int
    bytes: int
    updated_at: float
    updated_utc: str | None
    runs: int
    failed_runs: int
    unfinished_runs: int
    calls: int
    input_tokens: int
    output_tokens: int
    cost: float
    cached_read_tokens: int
    cached_write_tokens: int
    reasoning_tokens: int
    audio_tokens: int


@dataclass(frozen=True, slots=True)
class ActiveUser:
    """A user, with what is known without reading what the contexts hold; ``updates`` has removed ones, too."""

    user_id: str
    contexts: int
    updates: int
    failed_runs: int
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class UpdateRow:
    """An update, as it was saved in a revision. ``data`` and ``metadata`` are JSON text."""

    context_id: str
    user_id: str
    chat_id: str
    seq: int
    timestamp: float | None
    update_type: str
    data: str
    metadata: str
    run_id: str
    revision: int
    removed: bool
