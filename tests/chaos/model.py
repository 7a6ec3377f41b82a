"""The plain model that random programs are compared with: dictionaries and lists, and nothing clever."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from taskctx_sql import ContextUpdate, TaskContext

# An entry of the history is known by its timestamp, which the programs make unique.
History = dict[float, dict[str, Any]]


@dataclass
class Database:
    """What is stored of one context, for those who load it."""

    history: History = field(default_factory=dict)
    files: dict[str, Any] = field(default_factory=dict)
    models: list[Any] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass
class Change:
    """What a save is to do."""

    added: History = field(default_factory=dict)
    removed: set[float] = field(default_factory=set)
    files: dict[str, Any] = field(default_factory=dict)
    files_removed: set[Any] = field(default_factory=set)
    models: list[Any] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    metadata_removed: set[Any] = field(default_factory=set)
    # Those of the removed ones that an optimize or truncate took out.
    dropped: set[float] = field(default_factory=set)

    @property
    def has_content(self) -> bool:
        return any(vars(self).values())

    def apply(self, database: Database) -> None:
        """Removals first, then what is new at the end: others' entries stay where they are."""
        for timestamp in self.removed:
            database.history.pop(timestamp, None)
        database.history.update(copy.deepcopy(self.added))
        _overlay(database.files, self.files, self.files_removed)
        database.models.extend(copy.deepcopy(self.models))
        _overlay(database.metadata, self.metadata, self.metadata_removed)


class Memory:
    """What one writer has in memory, and what of it the database had when the writer last heard of it."""

    def __init__(self) -> None:
        self.now = Database()
        self.known = Database()
        self.dropped: set[float] = set()

    def follow(self, context: TaskContext) -> None:
        """Take what the program did to the context in memory."""
        self.now = Database(
            {update.timestamp: _entry(update) for update in context.context_history},
            {path: dict(entry) for path, entry in context.file_tracker.items()},
            [dict(entry) for entry in context.model_tracker],
            copy.deepcopy(context.metadata),
        )

    def change(self) -> Change:
        """What is unsaved."""
        now, known = self.now, self.known
        files, files_removed = _difference(now.files, known.files)
        metadata, metadata_removed = _difference(now.metadata, known.metadata)
        return Change(
            added={timestamp: entry for timestamp, entry in now.history.items() if timestamp not in known.history},
            removed={timestamp for timestamp in known.history if timestamp not in now.history},
            files=files,
            files_removed=files_removed,
            # The programs only ever append here.
            models=now.models[len(known.models) :],
            metadata=metadata,
            metadata_removed=metadata_removed,
            dropped={timestamp for timestamp in self.dropped if timestamp in known.history},
        )

    def confirm(self) -> None:
        """What is in memory is saved."""
        self.known = copy.deepcopy(self.now)
        self.dropped = set()

    def load(self, database: Database) -> None:
        """Take what is stored, with what is unsaved on top."""
        unsaved = self.change()
        self.known = copy.deepcopy(database)
        self.now = copy.deepcopy(database)
        unsaved.apply(self.now)


def without(now: Database, before: Database, after: Database, order: dict[float, int]) -> Database:
    """A state with an operation taken back, which turned ``before`` into ``after`` at some time."""
    undone = copy.deepcopy(now)
    kept = {
        stamp: entry for stamp, entry in now.history.items() if stamp in before.history or stamp not in after.history
    }
    back = {stamp: entry for stamp, entry in before.history.items() if stamp not in after.history}
    undone.history = dict(sorted({**kept, **back}.items(), key=lambda item: order[item[0]]))
    mappings = (
        (before.files, after.files, now.files, undone.files),
        (before.metadata, after.metadata, now.metadata, undone.metadata),
    )
    for then, became, is_now, result in mappings:
        for key in {*then, *became}:
            if then.get(key) != became.get(key) and is_now.get(key) == became.get(key):
                _overlay(result, {key: then[key]} if key in then else {}, {key})
    # The programs only ever append here.
    models = [entry for entry in now.models if entry in before.models or entry not in after.models]
    models += [entry for entry in before.models if entry not in after.models]
    undone.models = sorted(models, key=lambda entry: order[entry["timestamp"]])
    return undone


def contents(context: TaskContext) -> Database:
    """What a context holds in memory."""
    memory = Memory()
    memory.follow(context)
    return memory.now


def same(one: Database, other: Database, *, history_only: bool) -> bool:
    """Whether both hold the same: the history in order, files and metadata in any."""
    if list(one.history.items()) != list(other.history.items()):
        return False
    return history_only or (one.files, one.models, one.metadata) == (other.files, other.models, other.metadata)


def _entry(update: ContextUpdate) -> dict[str, Any]:
    return copy.deepcopy(update.to_dict())


def _difference(now: dict[Any, Any], known: dict[Any, Any]) -> tuple[dict[Any, Any], set[Any]]:
    changed = {key: value for key, value in now.items() if key not in known or known[key] != value}
    return changed, set(known) - set(now)


def _overlay(target: dict[Any, Any], changed: dict[Any, Any], removed: set[Any]) -> None:
    for key in removed:
        target.pop(key, None)
    target.update(copy.deepcopy(changed))
