"""The rows of the reports about trees of tasks: a task, the tasks that name it as their parent, and so on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from taskctx_sql.model.key import ContextKey


@dataclass(frozen=True, slots=True)
class Tree:
    """A task with the sums of it and of all that is below it; those of itself alone begin with ``own_``.

    ``parent`` is what its label names; ``parent_id`` is None if that context is missing. ``is_root`` says whether it
    has no parent that is there, or is the first of a circle of parents. ``children`` are those directly below it,
    ``tasks`` is how many there are with itself, and ``depth`` how many levels are below it. ``outcome`` is the worst
    of all runs, and ``duration`` the time from the first update to the last one.
    """

    context_id: str
    user_id: str
    chat_id: str
    day: date | None
    created_at: float
    created_utc: str | None
    updated_at: float
    updated_utc: str | None
    title: str | None
    parent: str | None
    parent_id: str | None
    is_root: bool
    children: int
    tasks: int
    depth: int
    outcome: str | None
    runs: int
    failed_runs: int
    unfinished_runs: int
    cancelled_runs: int
    errors: int
    calls: int
    input_tokens: int
    output_tokens: int
    cost: float
    first_at: float | None
    first_utc: str | None
    last_at: float | None
    last_utc: str | None
    duration: float | None
    own_errors: int
    own_cost: float
    own_duration: float | None


@dataclass(frozen=True, slots=True)
class TreeNode:
    """A task in the tree of a context, with the sums of it and of all that is below it.

    Attributes:
        key: The context.
        parent: The context above it in the tree; None of the root.
        depth: How many are above it.
        is_missing: Whether others name it as their parent, and it is not there. Then it has nothing of its own.
        title: Its title.
        tasks: How many tasks there are in it and below it, without a missing one.
        outcome: The worst of all runs; None without any.
        errors: Updates of the type "error".
        calls: Uses of models.
        input_tokens: What they read.
        output_tokens: What they wrote.
        cost: What they cost.
        duration: Seconds from the first update to the last one; None without any.
        own_outcome: The outcome of the task alone.
        own_errors: The errors of the task alone.
        own_cost: The cost of the task alone.
        own_duration: The duration of the task alone.
        started_at: The time of the task's own first update, seconds since the epoch, UTC; None without any.
        ended_at: The time of its own last update.
    """

    key: ContextKey
    parent: ContextKey | None
    depth: int
    is_missing: bool
    title: str | None
    tasks: int
    outcome: str | None
    errors: int
    calls: int
    input_tokens: int
    output_tokens: int
    cost: float
    duration: float | None
    own_outcome: str | None
    own_errors: int
    own_cost: float
    own_duration: float | None
    started_at: float | None
    ended_at: float | None
