"""A store of one's own needs the methods of `ContextStore` and no others."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pytest

from taskctx_sql import (
    ContextKey,
    ContextStore,
    ContextSummary,
    ContextUpdate,
    Delta,
    Feature,
    Loaded,
    Saved,
    StoredUpdate,
    TaskContext,
    task_context,
)
from taskctx_sql.errors import UnsupportedByStoreError


@dataclass
class Record:
    created_at: float
    revision: int = 0
    updates: dict[int, ContextUpdate] = field(default_factory=dict)
    models: dict[int, dict[str, Any]] = field(default_factory=dict)
    files: dict[Any, tuple[int, Any]] = field(default_factory=dict)
    metadata: Any = field(default_factory=dict)
    toggles: Any = field(default_factory=dict)
    next: list[int] = field(default_factory=lambda: [1, 1, 1])


class MemoryStore:
    """Keeps contexts in a dict, for one process and one writer."""

    database_url = "memory"
    features = frozenset({Feature.USERS, Feature.METADATA, Feature.TRACKERS})

    def __init__(self) -> None:
        self.records: dict[ContextKey, Record] = {}

    async def load(self, key: ContextKey, /, *, history_limit: int | None = None, **earlier: Any) -> Loaded:
        if earlier.get("revision") is not None or earlier.get("at") is not None:
            raise UnsupportedByStoreError("show earlier states", self.database_url, Feature.REVISIONS.value)
        record = deepcopy(self.records.get(key))
        if record is None:
            return Loaded(revision=0, base=None)
        seqs = list(record.updates)
        kept = seqs if history_limit is None else seqs[len(seqs) - min(history_limit, len(seqs)) :]
        return Loaded(
            revision=record.revision,
            base=record.revision,
            history=[record.updates[seq] for seq in kept],
            seqs=kept,
            earlier=len(kept) < len(seqs),
            models=list(record.models.items()),
            files=sorted((position, path, entry) for path, (position, entry) in record.files.items()),
            metadata=record.metadata,
            toggles=record.toggles,
        )

    async def save(self, delta: Delta, /) -> Saved:
        delta = deepcopy(delta)
        record = self.records.setdefault(delta.key, Record(time.time()))
        for seq in delta.removed_updates:
            record.updates.pop(seq, None)
        for seq in delta.removed_models:
            record.models.pop(seq, None)
        first_seq, first_model, first_position = record.next
        record.updates |= dict(enumerate(delta.updates, first_seq))
        record.models |= {seq: dict(entry) for seq, entry in enumerate(delta.models, first_model)}
        position = first_position
        for change in delta.files:
            if change.removed:
                record.files.pop(change.path, None)
            elif change.position is not None:
                record.files[change.path] = (change.position, change.entry)
            else:
                record.files[change.path] = (position, change.entry)
                position += 1
        record.next = [first_seq + len(delta.updates), first_model + len(delta.models), position]
        if delta.metadata is not None:
            record.metadata = delta.metadata.whole
        if delta.toggles is not None:
            record.toggles = delta.toggles.whole
        record.revision += 1
        return Saved(record.revision, first_seq, first_model, first_position, base=record.revision, complete=True)

    async def updates(
        self, key: ContextKey, /, *, after: int = 0, before: int | None = None, newest_first: bool = False
    ) -> AsyncIterator[StoredUpdate]:
        record = self.records.get(key)
        seqs = [] if record is None else [seq for seq in record.updates if after < seq < (before or float("inf"))]
        for seq in reversed(seqs) if newest_first else seqs:
            assert record is not None
            yield StoredUpdate(seq, deepcopy(record.updates[seq]))

    async def contexts(
        self, user_id: str, /, *, after: ContextSummary | None = None, limit: int = 100
    ) -> Sequence[ContextSummary]:
        found = [(key, record) for key, record in self.records.items() if key.user_id == user_id]
        return [
            ContextSummary(user_id, key.chat_id, record.revision, record.created_at, record.created_at)
            for key, record in found
        ][:limit]

    async def delete(self, key: ContextKey, /) -> bool:
        return self.records.pop(key, None) is not None

    async def close(self) -> None:
        self.records.clear()


DATA = {"user_id": "u1", "chat_id": "c1", "metadata": {"language": "en"}}


async def test_a_context_is_saved_and_loaded() -> None:
    store = MemoryStore()
    async with task_context(DATA, store=store) as context:
        context.add_context_update("message", "Starting")
        context.track_file_operation("a.txt", "read")
        context.track_model_usage("m", "p", "chat", input_tokens=3)
        await context.save()
        context.context_history[0].data = "Edited"
        del context.file_tracker["a.txt"]
    again = TaskContext({"user_id": "u1", "chat_id": "c1"}, store=store, history_limit=2)
    await again.load()
    history = [update async for update in again.earlier_updates()][::-1] + again.context_history
    assert [update.update_type for update in history] == ["message", "file_operation", "model_usage"]
    assert history[0].data == "Edited"
    assert (again.metadata, list(again.file_tracker), len(again.model_tracker)) == ({"language": "en"}, [], 1)


async def test_what_it_does_not_do_is_an_error_that_says_so() -> None:
    store: ContextStore = MemoryStore()
    async with task_context(DATA, store=store) as context:
        context.add_context_update("message", "Starting")
        await context.save()
        for call in (context.revisions(), context.fork("c2"), context.restore(1), context.undo(), context.load(at=0.0)):
            with pytest.raises(UnsupportedByStoreError, match="memory cannot show earlier states"):
                await call
