"""Which entry of a history file has which number, and which saves it holds, as far as this process knows."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from taskctx_sql import codec
from taskctx_sql.model import ContextUpdate, Run, Saved

# How a file ends.
LAST: Final = "\n]"
# Of how many runs of a chat the last save is known again when it is repeated.
RUNS_REMEMBERED: Final = 1_000
# Of how many entries of a chat that are gone it is known again whether they came back.
GONE_REMEMBERED: Final = 100_000

Signature = tuple[int, int, int]
ABSENT: Final[Signature] = (0, 0, 0)


class Entries(NamedTuple):
    """The numbers and marks of a file's entries, and the number of the next one."""

    seqs: array[int]
    marks: array[int]
    next_seq: int


@dataclass(frozen=True, slots=True)
class Doubt:
    """A save of which nobody knows whether its file is in its place."""

    run: Run
    text: str
    entries: Entries
    saved: Saved

    def is_in(self, text: str) -> bool:
        """Whether a file holds it: as it was written, or with more behind it."""
        return text == self.text or text.startswith(f"{self.text.removesuffix(LAST)},")


class Numbering:
    """Which entry of a file has which seq, for as long as a context of this process needs to know.

    A file has no seqs of its own. An entry keeps its number while others come and go; after somebody else changed
    the file, entries are known again by their timestamp and type.
    """

    def __init__(self) -> None:
        self.signature = ABSENT
        self.version = 0
        self.seqs = array("q")
        self.marks = array("q")
        self.next_seq = 1
        self.applied: dict[str, tuple[int, Saved]] = {}
        self.doubt: Doubt | None = None
        # The marks of entries that are gone, by seq.
        self.gone: dict[int, int] = {}

    def were_written_anew(self, seqs: Collection[int]) -> bool:
        """Whether any of these entries, which are gone, may be there again under another number."""
        there = set(self.marks)
        return any(self.gone.get(seq) in there or seq not in self.gone for seq in seqs)

    def _let_go(self, seqs: Iterable[int]) -> None:
        """Remember what is not among the seqs any more."""
        kept = set(seqs)
        self.gone |= {seq: mark for seq, mark in zip(self.seqs, self.marks, strict=True) if seq not in kept}
        while len(self.gone) > GONE_REMEMBERED:
            del self.gone[next(iter(self.gone))]

    def answer_to(self, run: Run) -> Saved | None:
        """Return what a save was answered, if it was written."""
        number, saved = self.applied.get(run.run_id, (0, None))
        return saved if number == run.saves else None

    def note(self, run: Run, saved: Saved) -> None:
        """A save is written."""
        self.applied.pop(run.run_id, None)
        self.applied[run.run_id] = (run.saves, saved)
        if len(self.applied) > RUNS_REMEMBERED:
            del self.applied[next(iter(self.applied))]

    def take(self, signature: Signature, entries: Entries) -> None:
        """Take the entries that a save wrote."""
        self.signature, self.doubt = signature, None
        if len(entries.seqs) <= len(self.seqs) or entries.seqs[: len(self.seqs)] != self.seqs:
            self._let_go(entries.seqs)
        self.seqs, self.marks, self.next_seq = entries
        self.version += 1

    def settle(self, signature: Signature, text: str) -> None:
        """See whether a save in doubt was written, by what the file holds now."""
        doubt, self.doubt = self.doubt, None
        if doubt is not None and signature != self.signature and doubt.is_in(text):
            # Others may have appended to it since: what they added is looked for next.
            self.take(signature if text == doubt.text else ABSENT, doubt.entries)
            self.note(doubt.run, doubt.saved)

    def follow(self, signature: Signature, updates: Sequence[ContextUpdate]) -> None:
        """Take the entries that the file holds now."""
        if signature == self.signature:
            return
        places: dict[int, list[int]] = {}
        for place, mark in enumerate(self.marks):
            places.setdefault(mark, []).append(place)
        marks = array("q", (mark_of(update) for update in updates))
        seqs = array("q")
        at = 0
        for mark in marks:
            same = places.get(mark, [])
            found = bisect_left(same, at)
            if found < len(same):
                at = same[found] + 1
                seqs.append(self.seqs[same[found]])
            else:
                seqs.append(self.next_seq)
                self.next_seq += 1
        self._let_go(seqs)
        self.signature, self.marks, self.seqs = signature, marks, seqs
        self.version += 1


@dataclass(frozen=True, slots=True)
class Base:
    """What a context has seen of its file."""

    numbering: Numbering
    version: int
    existed: bool


def mark_of(update: ContextUpdate) -> int:
    """Return what an entry is known again by, the same for what was put in and for what comes back."""
    return hash(codec.encode([update.timestamp, update.update_type], warn=False))
