"""What came of moving contexts: the results of importing, exporting and copying."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from taskctx_sql.model.records import ContextKey

# Of a file or a move with more, only the number is kept.
TOLD: Final = 100

TransferOutcome = Literal["added", "extended", "unchanged", "refused"]

# Called with what is being worked on, how much of it is done, and how much there is, as far as that is known.
TransferProgress = Callable[[str, int, int | None], None]


def no_progress(doing: str, done: int, total: int | None) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A part of a file that is no whole entry: from byte ``start`` up to byte ``end``, counted from 0."""

    start: int
    end: int
    reason: str

    def __str__(self) -> str:
        return f"bytes {self.start:,} to {self.end:,}: {self.reason}"


@dataclass(slots=True)
class Problem:
    """What did not come, or is not the same on both sides."""

    where: str
    reason: str


@dataclass(slots=True)
class Moved:
    """What an export or a copy did.

    Attributes:
        source: The address that it read from.
        target: The address that it wrote to.
        contexts: How many contexts the source has of those that were asked for.
        outcomes: How many of them were added, extended, unchanged, or refused because both sides had changed.
        updates: How many updates they have.
        added: How many of these were written now.
        verified: How many were read back from the target and compared, equal in all columns; None if not asked for.
        left_behind: What the target has no place for, by what it is.
        problems: What went wrong, the first `TOLD`.
        problem_count: How much of it.
        seconds: How long it took.
    """

    source: str
    target: str
    contexts: int = 0
    outcomes: dict[TransferOutcome, int] = field(
        default_factory=lambda: {"added": 0, "extended": 0, "unchanged": 0, "refused": 0}
    )
    updates: int = 0
    added: int = 0
    verified: int | None = None
    left_behind: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    problem_count: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether all of it came, and was the same when it was compared."""
        return not self.problem_count

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {"ok": self.ok, **asdict(self)}

    def tell(self, key: ContextKey | str, reason: str) -> None:
        """Note a problem."""
        self.problem_count += 1
        if len(self.problems) < TOLD:
            self.problems.append(Problem(str(key), reason))


@dataclass(slots=True)
class ImportedChat:
    """What came of one chat's files.

    Attributes:
        chat_id: Which chat.
        files: Its files' names, in the order in which they were read: those that were set aside come first.
        entries: How many whole entries they have.
        added: How many of these were new and were written now.
        verified: Whether all of them were found in the database afterwards; None if not asked for.
        damage: (file, part) of what is no whole entry, the first `TOLD`.
        damage_count: How many such parts there are.
        error: Why the chat could not be imported, or None.
    """

    chat_id: str
    files: list[str]
    entries: int = 0
    added: int = 0
    verified: bool | None = None
    damage: list[tuple[str, Damage]] = field(default_factory=list)
    damage_count: int = 0
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether all of it came."""
        return self.error is None and not self.damage_count and self.verified is not False


@dataclass(slots=True)
class Imported:
    """What an import did.

    Attributes:
        source: The folder's address.
        target: The address that it wrote to.
        chats: What came of each chat.
        ignored: The names of files in the folder that are no histories.
        seconds: How long it took.
    """

    source: str
    target: str
    chats: list[ImportedChat] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether all of it came."""
        return all(chat.ok for chat in self.chats)

    @property
    def entries(self) -> int:
        """How many whole entries the files have."""
        return sum(chat.entries for chat in self.chats)

    @property
    def added(self) -> int:
        """How many of these were new."""
        return sum(chat.added for chat in self.chats)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        chats = [
            asdict(chat) | {"ok": chat.ok, "damage": [{"file": name, **asdict(part)} for name, part in chat.damage]}
            for chat in self.chats
        ]
        return {"ok": self.ok, "entries": self.entries, "added": self.added, **asdict(self), "chats": chats}
