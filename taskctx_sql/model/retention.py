"""What is to be kept, and what came of removing the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from taskctx_sql.errors import InvalidArgumentError, InvalidRetentionError
from taskctx_sql.errors.base import shown
from taskctx_sql.limits import check_number, check_seconds

# Called with how many contexts are done.
PruneProgress = Callable[[int], None]


def check_interval(interval: Any) -> None:
    """See that something can be done again and again, so many seconds apart.

    Raises:
        InvalidRetentionError: It cannot.
    """
    try:
        check_seconds("interval", interval)
        possible = interval > 0
    except InvalidArgumentError:
        possible = False
    if not possible:
        raise InvalidRetentionError(f"the interval is {shown(interval)}, and must be more than 0 seconds")


@dataclass(frozen=True, slots=True)
class Retention:
    """What is to go; a limit that is None is none. Ages are seconds.

    Attributes:
        max_age: Contexts go that nobody saved to for longer than this.
        max_contexts: Of each user only so many contexts stay, those saved last: the reference's max_history_files.
        removed_age: Updates, files and model uses go that left the working history longer ago than this.

    Raises:
        InvalidRetentionError: A limit is negative, or there is none.
    """

    max_age: float | None = None
    max_contexts: int | None = None
    removed_age: float | None = None

    def __post_init__(self) -> None:
        limits = asdict(self)
        for name, value in limits.items():
            if value is None:
                continue
            try:
                check_seconds(name, value)
                if name == "max_contexts":
                    check_number(name, value, 0)
            except InvalidArgumentError as error:
                raise InvalidRetentionError(f"{name} is {shown(value)}, and must be 0 or more") from error
        if all(value is None for value in limits.values()):
            raise InvalidRetentionError("it has no limit")

    @classmethod
    def of_preset(cls, preset: Mapping[str, Any]) -> Retention:
        """Return that of a preset such as `PRODUCTION_CONFIG`: its max_history_files."""
        return cls(max_contexts=preset["max_history_files"])


@dataclass(slots=True)
class Pruned:
    """What a pruning removed, or with ``dry_run`` would remove.

    Attributes:
        database_url: The store's, with a password masked.
        dry_run: Whether nothing was removed.
        by_age: How many contexts went because of their age.
        by_count: How many went because their user has too many.
        in_use: How many stayed because somebody saved to them meanwhile.
        rows: How many rows went, by table; files and their bytes for a folder.
        batches: In how many transactions.
        longest: Seconds that the longest one took.
        seconds: How long all of it took.
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
        """Count rows."""
        for name, count in counts.items():
            if count:
                self.rows[name] = self.rows.get(name, 0) + count


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an erasure removed for good.

    Attributes:
        database_url: The store's, with a password masked.
        user_id: Whose.
        chat_id: Which chat; None for all of the user's.
        chats: The chats that there were.
        rows: How many rows went, by table; files and their bytes for a folder.
        erased_at: When it was done, seconds since the epoch, UTC.
    """

    database_url: str
    user_id: str
    chat_id: str | None
    chats: tuple[str, ...]
    rows: Mapping[str, int]
    erased_at: float
