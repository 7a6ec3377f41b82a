"""What the reports answer, row by row; docs/reporting.md has the columns, with their units.

Times are seconds since the epoch, UTC, durations seconds, sizes bytes. A day is a UTC day.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """An update in a timeline. ``data`` is JSON text, ``removed`` says that it left the working history."""

    seq: int
    timestamp: float | None
    update_type: str
    data: str
    removed: bool


@dataclass(frozen=True, slots=True)
class Count:
    """How many there are of something."""

    name: str
    count: int


@dataclass(frozen=True, slots=True)
class RunReport:
    """One run. Times are seconds since the epoch, UTC; ``outcome`` is None while it lasts, or if it broke off."""

    run_id: str
    started_at: float
    ended_at: float | None
    outcome: str | None
    error: str | None
    saves: int
    updates: int

    @property
    def duration(self) -> float | None:
        """Seconds from beginning to end."""
        return None if self.ended_at is None else self.ended_at - self.started_at


@dataclass(frozen=True, slots=True)
class Task:
    """A context as a whole. ``first_at``, ``last_at`` and ``duration`` are None without updates."""

    context_id: str
    user_id: str
    chat_id: str
    created_at: float
    updated_at: float
    saves: int
    updates: int
    removed: int
    errors: int
    first_at: float | None
    last_at: float | None
    duration: float | None
    runs: int
    failed_runs: int
    files: int
    models: int
    calls: int
    input_tokens: int
    output_tokens: int
    cost: float


@dataclass(frozen=True, slots=True)
class TaskRun:
    """One entering of a context. ``outcome`` is "unfinished" while it lasts, or if it broke off."""

    context_id: str
    user_id: str
    chat_id: str
    run_id: str
    started_at: float
    ended_at: float | None
    duration: float | None
    outcome: str
    error: str | None
    saves: int


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """What was used of a model, provider and mode on a day; ``day`` is None for uses without a time."""

    day: date | None
    model_id: str
    provider_id: str
    mode: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost: float
    duration: float


@dataclass(frozen=True, slots=True)
class FileActivity:
    """What was last done to a file in a context, by whom, and after the use of which model."""

    context_id: str
    user_id: str
    chat_id: str
    path: str
    path_id: str
    operation: str | None
    source: str | None
    state: str | None
    timestamp: float | None
    run_id: str
    revision: int
    model_id: str | None


@dataclass(frozen=True, slots=True)
class Activity:
    """Updates of a type on a day, and how many of them left the working history."""

    day: date | None
    update_type: str
    updates: int
    removed: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """An update of the type "error" (``kind`` is "update"), or a run that failed ("run", with a seq of 0)."""

    kind: str
    context_id: str
    user_id: str
    chat_id: str
    run_id: str
    seq: int
    timestamp: float | None
    message: str
    removed: bool


@dataclass(frozen=True, slots=True)
class ContextSize:
    """How large and how busy a context is."""

    context_id: str
    user_id: str
    chat_id: str
    created_at: float
    updated_at: float
    bytes: int
    largest_update: int
    updates: int
    removed: int
    saves: int
    files: int
    runs: int


@dataclass(frozen=True, slots=True)
class UserSize:
    """How much a user has."""

    user_id: str
    contexts: int
    updates: int
    removed: int
    bytes: int
    updated_at: float


@dataclass(frozen=True, slots=True)
class SearchHit:
    """An update whose data has a text in it. ``data`` is JSON text."""

    context_id: str
    user_id: str
    chat_id: str
    seq: int
    timestamp: float | None
    update_type: str
    data: str
    removed: bool
