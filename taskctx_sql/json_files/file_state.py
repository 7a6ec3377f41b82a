"""What this process knows of a history file: the seqs of its entries, and which saves it holds."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from taskctx_sql import codec
from taskctx_sql.model import ContextUpdate, Run, Saved

# How a file ends.
END: Final = "\n]"
# The last save of so many runs of a chat is recognized when it is repeated.
RUNS_REMEMBERED: Final = 1_000
# So many removed entries of a chat are recognized if they come back.
REMOVED_REMEMBERED: Final = 100_000
# Of so many files the state is kept even if no context in memory refers to it.
FILES_REMEMBERED: Final = 1_000

Signature = tuple[int, int, int]
ABSENT: Final[Signature] = (0, 0, 0)


class EntrySeqs(NamedTuple):
    """The seqs and fingerprints of a file's entries, and the next seq."""

    seqs: array[int]
    fingerprints: array[int]
    next_seq: int


@dataclass(frozen=True, slots=True)
class UncertainSave:
    """A save whose new file may or may not have replaced the old one."""

    run: Run
    text: str
    entries: EntrySeqs
    saved: Saved

    def is_in(self, text: str) -> bool:
        """Whether a file holds the save, perhaps with more appended since."""
        return text == self.text or text.startswith(f"{self.text.removesuffix(END)},")


class FileState:
    """Which entry of a file has which seq, for as long as a context of this process needs it.

    A file has no seqs of its own. An entry keeps its seq while others come and go; after another program changed the
    file, entries are recognized by their timestamp and type.
    """

    def __init__(self) -> None:
        self.signature: Signature = ABSENT
        self.version: int = 0
        self.seqs: array[int] = array("q")
        self.fingerprints: array[int] = array("q")
        self.next_seq: int = 1
        self.uncertain: UncertainSave | None = None
        self._saves: dict[str, tuple[int, Saved]] = {}
        # The fingerprints of removed entries, by seq.
        self._removed: dict[int, int] = {}

    def may_have_again(self, seqs: Collection[int]) -> bool:
        """Whether any of these removed entries may be in the file again, under another seq."""
        present = set(self.fingerprints)
        return any(self._removed.get(seq) in present or seq not in self._removed for seq in seqs)

    def result_of(self, run: Run) -> Saved | None:
        """Return the result of a save if it was written before."""
        number, saved = self._saves.get(run.run_id, (0, None))
        return saved if number == run.saves else None

    def add_save(self, run: Run, saved: Saved) -> None:
        """Remember that a save was written."""
        self._saves.pop(run.run_id, None)
        self._saves[run.run_id] = (run.saves, saved)
        if len(self._saves) > RUNS_REMEMBERED:
            del self._saves[next(iter(self._saves))]

    def set_entries(self, signature: Signature, entries: EntrySeqs) -> None:
        """Take over the entries that a save wrote."""
        self.signature, self.uncertain = signature, None
        if len(entries.seqs) <= len(self.seqs) or entries.seqs[: len(self.seqs)] != self.seqs:
            self._remember_removed(entries.seqs)
        self.seqs, self.fingerprints, self.next_seq = entries
        self.version += 1

    def resolve_uncertain(self, signature: Signature, text: str) -> None:
        """Find out from the file's text whether an uncertain save was written."""
        uncertain, self.uncertain = self.uncertain, None
        if uncertain is not None and signature != self.signature and uncertain.is_in(text):
            # Others may have appended to it since; `match_entries` finds what they added.
            self.set_entries(signature if text == uncertain.text else ABSENT, uncertain.entries)
            self.add_save(uncertain.run, uncertain.saved)

    def match_entries(self, signature: Signature, updates: Sequence[ContextUpdate]) -> None:
        """Assign seqs to the entries that the file holds now; those that were there before keep theirs."""
        if signature == self.signature:
            return
        known: dict[int, list[int]] = {}
        for index, mark in enumerate(self.fingerprints):
            known.setdefault(mark, []).append(index)
        fingerprints = array("q", (fingerprint(update) for update in updates))
        seqs = array("q")
        first = 0
        for mark in fingerprints:
            indexes = known.get(mark, [])
            match = bisect_left(indexes, first)
            if match < len(indexes):
                first = indexes[match] + 1
                seqs.append(self.seqs[indexes[match]])
            else:
                seqs.append(self.next_seq)
                self.next_seq += 1
        self._remember_removed(seqs)
        self.signature, self.fingerprints, self.seqs = signature, fingerprints, seqs
        self.version += 1

    def _remember_removed(self, seqs: Iterable[int]) -> None:
        kept = set(seqs)
        known = zip(self.seqs, self.fingerprints, strict=True)
        self._removed |= {seq: mark for seq, mark in known if seq not in kept}
        while len(self._removed) > REMOVED_REMEMBERED:
            del self._removed[next(iter(self._removed))]


class FileStates:
    """The states of a folder's files, by file name."""

    def __init__(self) -> None:
        self._in_use: WeakValueDictionary[str, FileState] = WeakValueDictionary()
        # A first save may be cancelled and repeated before a context refers to the state.
        self._saved_last: dict[str, FileState] = {}

    def get(self, name: str) -> FileState:
        """Return a file's state."""
        return self._in_use.setdefault(name, FileState())

    def keep(self, name: str, state: FileState) -> None:
        """Keep the state of a file that was saved to, even if no context refers to it."""
        self._saved_last.pop(name, None)
        self._saved_last[name] = state
        if len(self._saved_last) > FILES_REMEMBERED:
            del self._saved_last[next(iter(self._saved_last))]


@dataclass(frozen=True, slots=True)
class FileBase:
    """The version of its file that a context has seen."""

    state: FileState
    version: int
    existed: bool


def fingerprint(update: ContextUpdate) -> int:
    """Return what an entry is recognized by, the same before it is saved and after it is read."""
    return hash(codec.encode([update.timestamp, update.update_type], warn=False))
