"""What a writer writes and acknowledges, and the comparison of the two afterwards.

Each save carries a mark, its writer and number, in every piece: three updates, a file and a model. So the checker sees
whether a save is there, once, in order and whole.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from taskctx_sql import ContextKey, ContextUpdate, Feature, Store, TaskContext
from taskctx_sql.model import Loaded

USER = "chaos"
UPDATES_A_SAVE = 3


def add_step(context: TaskContext, writer: str, number: int) -> None:
    """Add what one save writes: three updates (tracking adds two of them), a file and a model."""
    mark = f"{writer}.{number}"
    context.add_context_update("message", {"mark": mark}, {"number": number})
    context.track_file_operation(mark, "write")
    context.track_model_usage(mark, "provider", "chaos", input_tokens=number)


def context_of(store: Store, chat: str, **more: Any) -> TaskContext:
    return TaskContext({"user_id": USER, "chat_id": chat}, store=store, **more)


class Journal:
    """Where a writer acknowledges: lines in a file, each in it before the writer goes on, so a kill loses none."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def acknowledge(self, writer: str, number: int, took: float) -> None:
        self._write(f"saved {writer} {number} {time.monotonic():.6f} {took:.6f}")

    def fail(self, writer: str, error: BaseException) -> None:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        self._write(f"failed {writer} {text}")

    def close(self) -> None:
        os.close(self._descriptor)

    def _write(self, line: str) -> None:
        os.write(self._descriptor, f"{line}\n".encode())


@dataclass(frozen=True)
class Acknowledged:
    """One save that returned: when, on the clock that all processes share, and how long it took."""

    writer: str
    number: int
    at: float
    took: float


@dataclass
class Entries:
    """What a journal holds."""

    saved: list[Acknowledged] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def longest(self) -> float:
        return max((entry.took for entry in self.saved), default=0.0)


def read_journal(path: Path) -> Entries:
    entries = Entries()
    if not path.exists():
        return entries
    for line in path.read_text().splitlines():
        kind, writer, rest = line.split(" ", 2)
        if kind == "saved":
            number, at, took = rest.split()
            entries.saved.append(Acknowledged(writer, int(number), float(at), float(took)))
        else:
            entries.failed.append(f"{writer}: {rest}")
    return entries


@dataclass
class Findings:
    """How often the promise was broken, and what was seen first."""

    lost: int = 0
    doubled: int = 0
    partial: int = 0
    gaps: int = 0
    saves: int = 0
    examples: list[str] = field(default_factory=list)

    def note(self, kind: str, what: str) -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.examples) < 5:
            self.examples.append(f"{kind}: {what}")

    def add(self, other: Findings) -> None:
        for kind in ("lost", "doubled", "partial", "gaps", "saves"):
            setattr(self, kind, getattr(self, kind) + getattr(other, kind))
        self.examples = (self.examples + other.examples)[:5]


async def examine(store: Store, chat: str, acknowledged: Iterable[Acknowledged]) -> Findings:
    """Compare a context as it is stored with the saves to it that were acknowledged."""
    loaded = await store.load(ContextKey(USER, chat))
    return compare(loaded, acknowledged, trackers=Feature.TRACKERS in store.features)


def compare(loaded: Loaded, acknowledged: Iterable[Acknowledged], *, trackers: bool) -> Findings:
    """Find what is lost, doubled, partial or out of place.

    A writer goes on only after its save returned, so the numbers of each are there from 1 to the last one acknowledged,
    or past it by what was under way, without a hole and in order.
    """
    findings = Findings()
    seqs = [row.seq for row in loaded.updates]
    if seqs != list(range(1, len(seqs) + 1)):
        findings.note("gaps", f"the seqs are not 1 to {len(seqs)}")
    marks = [mark_of(row.update) for row in loaded.updates]
    order = list(dict.fromkeys(marks))
    findings.saves = len(order)
    _find_misplaced(marks, order, findings)
    expected: dict[str, set[str]] = {}
    for entry in acknowledged:
        expected.setdefault(entry.writer, set()).add(f"{entry.writer}.{entry.number}")
    _find_lost(expected, order, findings)
    pieces = Counter(marks)
    files = Counter(path for _, path, _ in loaded.files)
    models = Counter(entry["model_id"] for _, entry in loaded.models)
    for mark in {*pieces, *files, *models} if trackers else set(pieces):
        counts = (pieces[mark] / UPDATES_A_SAVE, *((files[mark], models[mark]) if trackers else ()))
        if min(counts) < 1:
            findings.note("partial", f"{mark} has {pieces[mark]} updates, {files[mark]} files, {models[mark]} models")
        elif max(counts) > 1:
            findings.note("doubled", f"{mark} has {pieces[mark]} updates, {files[mark]} files, {models[mark]} models")
    return findings


def mark_of(update: ContextUpdate) -> str:
    data: Mapping[str, Any] = update.data
    return str(data.get("mark") or data.get("path") or data["model_id"])


def numbers_by_writer(marks: Iterable[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for mark in marks:
        writer, _, number = mark.rpartition(".")
        found.setdefault(writer, []).append(int(number))
    return found


def _find_misplaced(marks: list[str], order: list[str], findings: Findings) -> None:
    """The updates of a save stand together, and a writer's saves in the order in which it made them."""
    together = sum(1 for one, following in pairwise(marks) if one != following) + bool(marks)
    if together != len(order):
        findings.note("gaps", "updates of other saves stand inside a save")
    for writer, numbers in numbers_by_writer(order).items():
        if numbers != sorted(numbers):
            findings.note("gaps", f"the saves of {writer} are out of order")


def _find_lost(expected: dict[str, set[str]], order: list[str], findings: Findings) -> None:
    there = set(order)
    for acknowledged in expected.values():
        for mark in acknowledged - there:
            findings.note("lost", f"{mark} was acknowledged")
    for writer, numbers in numbers_by_writer(order).items():
        holes = set(range(1, max(numbers) + 1)) - set(numbers)
        for number in holes:
            if f"{writer}.{number}" not in expected.get(writer, ()):
                findings.note("lost", f"{writer}.{number} is not there, and later ones are")
