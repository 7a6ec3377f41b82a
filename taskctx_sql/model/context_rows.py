"""The rows of the reports about one context. Times are in seconds since the epoch, UTC."""

from __future__ import annotations

from dataclasses import dataclass

from taskctx_sql.model.report_rows import Outcome


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """An update in a timeline.

    Attributes:
        seq: Its place in the history, from 1.
        timestamp: When it was created.
        update_type: Its type.
        data: JSON text, or the beginning of a long one.
        removed: Whether it is no longer in the history.
        metadata: JSON text, or its beginning likewise.
        data_characters: How long the whole data is.
        metadata_characters: How long the whole metadata is.
        run_id: The run that saved it.
        added_in: The revision that it came in.
        removed_in: The revision that it left in, or None.
        copy_of: The seq of the update that it is a copy of, if a restore or a fork wrote it again.
    """

    seq: int
    timestamp: float | None
    update_type: str
    data: str
    removed: bool
    metadata: str
    data_characters: int
    metadata_characters: int
    run_id: str
    added_in: int
    removed_in: int | None
    copy_of: int | None


@dataclass(frozen=True, slots=True)
class ModelUse:
    """A use of a model in a context; ``seq`` is its place among them, from 1, and ``removed`` as of an update."""

    seq: int
    model_id: str | None
    provider_id: str | None
    mode: str | None
    timestamp: float | None
    duration: float | None
    input_tokens: int | None
    output_tokens: int | None
    cached_read_tokens: int | None
    cached_write_tokens: int | None
    reasoning_tokens: int | None
    audio_tokens: int | None
    cost: float | None
    price_list: str | None
    run_id: str
    removed: bool


@dataclass(frozen=True, slots=True)
class NamedValue:
    """A named value of a context. ``value`` is JSON text, or the beginning of one with more ``characters``."""

    name: str
    value: str
    characters: int
    revision: int
    saved_at: float
    expires_at: float | None


@dataclass(frozen=True, slots=True)
class TrackedFile:
    """What was done to a file. ``removed`` says that something else was done to it later, or that it is not tracked."""

    path: str
    operation: str | None
    source: str | None
    timestamp: float | None
    state: str | None
    run_id: str
    revision: int
    removed: bool


@dataclass(frozen=True, slots=True)
class ContextMetadata:
    """The metadata of a context and its toggles, as JSON text."""

    metadata: str
    toggles: str


@dataclass(frozen=True, slots=True)
class LastRun:
    """The run of a context that began last. ``outcome`` is "unfinished" if it has not ended."""

    run_id: str
    started_at: float
    ended_at: float | None
    outcome: str
    error: str | None


@dataclass(frozen=True, slots=True)
class ContextTotals:
    """How much a context has. ``first_at`` and ``last_at`` are the times of its first and its newest update."""

    updates: int
    removed: int
    errors: int
    first_at: float | None
    last_at: float | None
    runs: int
    failed_runs: int
    unfinished_runs: int
    cancelled_runs: int
    files: int

    @property
    def duration(self) -> float | None:
        """The seconds from the first update to the newest; None without any."""
        return None if self.first_at is None or self.last_at is None else self.last_at - self.first_at

    @property
    def outcome(self) -> Outcome | None:
        """The worst outcome of its runs; None without any."""
        if self.failed_runs:
            return "failed"
        if self.unfinished_runs:
            return "unfinished"
        if self.cancelled_runs:
            return "cancelled"
        return "completed" if self.runs else None
