"""The rows of the reports that count costs, failures and durations over many tasks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final, Literal, get_args

# What costs are added up by.
CostBy = Literal["day", "model", "user", "label", "task", "tree"]
COST_BY: Final[tuple[CostBy, ...]] = get_args(CostBy)


@dataclass(frozen=True, slots=True)
class Cost:
    """What uses of models cost: by day, model, user, label, task or tree of tasks.

    ``name`` is the model, the user, the label's text (empty for tasks without it), or the chat of the task or of the
    root of its tree; by day it is empty, and ``day`` is None for uses without a time. ``user_id`` and ``chat_id`` say
    which user, task or root it is. ``tasks`` are the contexts in which a model was used; ``estimated_cost`` is the part
    of ``cost`` that was estimated from a list of prices.
    """

    day: date | None
    name: str
    user_id: str | None
    chat_id: str | None
    tasks: int
    calls: int
    failures: int
    input_tokens: int
    output_tokens: int
    cached_read_tokens: int
    cached_write_tokens: int
    reasoning_tokens: int
    audio_tokens: int
    cost: float
    estimated_cost: float


@dataclass(frozen=True, slots=True)
class ModelSpeed:
    """How often a model failed, and how long it took.

    ``retries`` are the uses that followed a failed one of the same model in the same run. ``p50`` and ``p95`` are the
    durations in seconds that half and 95 % of its uses with a duration did not exceed, or None.
    """

    model_id: str
    provider_id: str
    calls: int
    failures: int
    retries: int
    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that has no end: it goes on, or it broke off.

    ``heard_at`` is the time of its last save, and ``silent`` how many seconds ago that was. ``broke_off`` says whether
    that is longer than a run that goes on is expected to be silent.
    """

    context_id: str
    user_id: str
    chat_id: str
    title: str | None
    run_id: str
    day: date | None
    started_at: float
    started_utc: str | None
    heard_at: float
    silent: float
    broke_off: bool
    saves: int
