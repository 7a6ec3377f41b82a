"""What to keep, and the results of removing the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.limits import check_number, check_seconds

# Called with how many contexts are done.
PruneProgress = Callable[[int], None]


def check_interval(argument: str, interval: Any) -> None:
    """Check that an argument is an interval in seconds, above 0."""
    check_seconds(argument, interval)
    if not interval > 0:
        raise InvalidArgumentError(argument, interval, "a number of seconds above 0")


@dataclass(frozen=True, slots=True)
class Retention:
    """What to keep; the rest is removed. At least one limit is required, and ages are in seconds.

    Attributes:
        max_age: Contexts that nobody saved to for longer than this are removed.
        max_contexts: Each user keeps only so many contexts, those saved last.
        removed_age: Updates, files, model uses and named values that left the working history longer ago than this
            are removed.
        expired: Named values that have expired are removed. Nobody reads them any more, with or without this.

    Raises:
        InvalidArgumentError: A limit is negative, or there is none.
    """

    max_age: float | None = None
    max_contexts: int | None = None
    removed_age: float | None = None
    expired: bool = False

    def __post_init__(self) -> None:
        check_number("max_contexts", self.max_contexts, 0, optional=True)
        for name in ("max_age", "removed_age"):
            if (age := getattr(self, name)) is not None:
                check_seconds(name, age)
        if self.max_age is None and self.max_contexts is None and self.removed_age is None and not self.expired:
            limits = "max_age, max_contexts, removed_age or expired"
            raise InvalidArgumentError("max_age", None, f"at least one limit: {limits}")

    @classmethod
    def of_preset(cls, preset: Mapping[str, Any]) -> Retention:
        """Return the retention of a preset such as `settings.PRODUCTION_CONFIG`: its max_history_files."""
        return cls(max_contexts=preset["max_history_files"])


@dataclass(slots=True)
class Pruned:
    """What `prune` removed, or with ``dry_run`` would remove.

    Attributes:
        database_url: The store's, with a password masked.
        dry_run: Whether nothing was removed.
        by_age: How many contexts were removed because of their age.
        by_count: How many contexts were removed because their user had too many.
        in_use: How many contexts were kept because somebody saved to them meanwhile.
        rows: How many rows were removed, by table; for a folder, files and their bytes.
        batches: How many transactions it took.
        longest: The seconds that the longest transaction took.
        seconds: The seconds that all of it took.
    """

    database_url: str
    dry_run: bool
    by_age: int = 0
    by_count: int = 0
    in_use: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    batches: int = 0
    longest: float = 0.0
    seconds: float = 0.0

    def add(self, counts: Mapping[str, int]) -> None:
        """Add counts of rows."""
        for name, count in counts.items():
            if count:
                self.rows[name] = self.rows.get(name, 0) + count


@dataclass(frozen=True, slots=True)
class Receipt:
    """What `erase` removed permanently.

    Attributes:
        database_url: The store's, with a password masked.
        user_id: Whose contexts.
        chat_id: The chat; None for all of the user's.
        chats: The chats that were erased.
        rows: How many rows were removed, by table; for a folder, files and their bytes.
        erased_at: The time, in seconds since the epoch, UTC.
    """

    database_url: str
    user_id: str
    chat_id: str | None
    chats: tuple[str, ...]
    rows: Mapping[str, int]
    erased_at: float
