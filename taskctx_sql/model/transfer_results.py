"""The results of importing, exporting and copying."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from taskctx_sql.model.key import ContextKey

# A result lists so many problems, or damaged parts of a chat; the rest is only counted.
MAX_REPORTED: Final = 100

TransferOutcome = Literal["added", "extended", "unchanged", "refused"]

# Called with what is being worked on, how much of it is done, and the total where that is known.
TransferProgress = Callable[[str, int, int | None], None]
# Called with what is being worked on, and how much more of it is done.
AddProgress = Callable[[str, int], None]


def sum_progress(progress: TransferProgress | None, total: int) -> AddProgress:
    """Return a function that sums up what is done, and reports the sum."""
    done = 0

    def add(doing: str, more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(doing, done, total)

    return add


@dataclass(frozen=True, slots=True)
class Damage:
    """A part of a file that is not a whole entry: from byte ``start`` up to byte ``end``, counted from 0."""

    start: int
    end: int
    reason: str

    def __str__(self) -> str:
        return f"bytes {self.start:,} to {self.end:,}: {self.reason}"


@dataclass(slots=True)
class Problem:
    """Something that was not transferred, or differs between both sides."""

    where: str
    reason: str


@dataclass(slots=True)
class Transferred:
    """The result of an export or a copy.

    Attributes:
        source: The URL it read from.
        target: The URL it wrote to.
        contexts: How many of the requested contexts the source has.
        outcomes: How many of them were added, extended, unchanged, or refused because both sides had changed.
        updates: How many updates they have.
        added: How many of these updates were written now.
        verified: How many updates were read back from the target and are equal in all columns; None without
            ``verify``.
        left_behind: How many things the target's format cannot hold, by kind.
        problems: What went wrong, the first `MAX_REPORTED`.
        problem_count: How many problems there were.
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
        """Whether everything was transferred, and no difference was found."""
        return not self.problem_count

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {"ok": self.ok, **asdict(self)}

    def add_problem(self, key: ContextKey | str, reason: str) -> None:
        """Count a problem, and list it if there is room."""
        self.problem_count += 1
        if len(self.problems) < MAX_REPORTED:
            self.problems.append(Problem(str(key), reason))

    def refuse(self, key: ContextKey | str, reason: str) -> None:
        """Count a context as refused, and why."""
        self.outcomes["refused"] += 1
        self.add_problem(key, reason)


@dataclass(slots=True)
class ChatImport:
    """The result of importing one chat's files.

    Attributes:
        chat_id: Which chat.
        files: The names of its files in reading order: those that were set aside come first.
        entries: How many whole entries they have.
        added: How many of these were new and were written now.
        verified: Whether the database had all of them afterwards; None without ``verify``.
        damage: (file, part) for each part that is not a whole entry, the first `MAX_REPORTED`.
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
        """Whether everything was imported."""
        return self.error is None and not self.damage_count and self.verified is not False


@dataclass(slots=True)
class Imported:
    """The result of an import.

    Attributes:
        source: The folder's URL.
        target: The URL it wrote to.
        chats: The result for each chat.
        ignored: The names of files in the folder that are not histories.
        seconds: How long it took.
    """

    source: str
    target: str
    chats: list[ChatImport] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether everything was imported."""
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
        """Return everything as plain values."""
        chats = [
            asdict(chat) | {"ok": chat.ok, "damage": [{"file": name, **asdict(part)} for name, part in chat.damage]}
            for chat in self.chats
        ]
        return {"ok": self.ok, "entries": self.entries, "added": self.added, **asdict(self), "chats": chats}
