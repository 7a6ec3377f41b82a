"""What a saver knows of a thread, so that it writes only what is new, in one round trip."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    get_checkpoint_metadata,
)
from typing_extensions import override

from taskctx_sql import ContextKey, Saved, Store
from taskctx_sql.integrations import identity
from taskctx_sql.integrations.langgraph import lists, names
from taskctx_sql.integrations.langgraph.cache import Cache
from taskctx_sql.integrations.langgraph.row import FRAMEWORK, Row
from taskctx_sql.integrations.langgraph.sharing import Entries, SharedSaves
from taskctx_sql.integrations.langgraph.values import Values
from taskctx_sql.integrations.langgraph.writers import writer_of

T = TypeVar("T")

# Encoded values up to this length are part of the checkpoint's entry: an entry of their own would be longer.
_SMALL: Final = 120
# Each call of a subgraph has a namespace of its own.
_MAX_NAMESPACES: Final = 64


@dataclass(frozen=True, slots=True)
class Stored:
    """A channel's value that is stored.

    Attributes:
        version: The channel's version.
        reference: How a checkpoint's entry has it or refers to it.
        growth: If it is a list: as it grows.
    """

    version: object
    reference: dict[str, Any]
    growth: lists.Growth | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a checkpoint writes, and what is stored then."""

    row: Row
    entries: dict[str, Any]
    channels: dict[str, Stored]


@dataclass(slots=True)
class Known:
    """What is known of a namespace.

    Attributes:
        channels: The values that are stored, by channel.
        created_at: When the context was created that has them, as the last write told; None after a read.
        read: The name of the checkpoint that they were read from, and when it was saved; None after a write.
    """

    channels: dict[str, Stored]
    created_at: float | None = None
    read: tuple[str, float] | None = None


class Thread(SharedSaves):
    """A thread: its writer, and the channels' values that are stored.

    `write` raises LostContextError if the thread was deleted, perhaps by another process, and StoreError if the store
    failed; what is stored is not known then.
    """

    def __init__(self, store: Store, key: ContextKey, thread_id: str, cache: Cache) -> None:
        super().__init__()
        self.key = key
        self.putting: asyncio.Lock = asyncio.Lock()
        self._store, self._cache = store, cache
        self._labels = identity.labels(FRAMEWORK, thread=thread_id)
        self._named = {} if self._labels["thread"] == thread_id else {names.THREAD: thread_id}
        self._labeled = False
        # By namespace.
        self.known: OrderedDict[str, Known] = OrderedDict()

    @override
    async def _save(self, entries: Entries, updates: Sequence[Any]) -> Saved:
        labels = None if self._labeled else self._labels
        if labels is not None and isinstance(entries, Mapping):
            entries = {**entries, **self._named}
        try:
            saved = await writer_of(self._store, self.key).write(updates=updates, state=entries, labels=labels)
        except BaseException:
            self.forget()
            raise
        self._labeled = True
        return saved

    def forget(self) -> None:
        """Know nothing of what is stored."""
        self.known.clear()
        self._labeled = False

    def learn(self, namespace: str, known: Known, entries: Mapping[str, Any] | None = None) -> None:
        """Remember a checkpoint's values, and the entries that were written with it."""
        for name, value in (entries or {}).items():
            self._cache.add(self.key, name, value)
        keep(self.known, namespace, known, _MAX_NAMESPACES)

    async def has(self, known: Known | None, saved: Saved) -> bool:
        """Whether the context that was written to has what is known, and is not another one in its place."""
        if known is None:
            return True
        if known.read is None:
            return known.created_at == saved.created_at
        name, saved_at = known.read
        return [entry.saved_at for entry in await self._store.state(self.key, name)] == [saved_at]


def keep(known: OrderedDict[Any, T], name: Any, value: T, most: int) -> T:
    """Set a value, as the latest, and drop the oldest if there are too many."""
    known[name] = value
    known.move_to_end(name)
    if len(known) > most:
        known.popitem(last=False)
    return value


def plan(
    thread: Thread,
    values: Values,
    config: RunnableConfig,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    new_versions: ChannelVersions,
) -> Plan:
    """Return what a checkpoint writes: its entry, and the values that are not stored yet."""
    namespace = config["configurable"].get("checkpoint_ns", "")
    known = thread.known[namespace].channels if namespace in thread.known else {}
    entries: dict[str, Any] = {}
    channels: dict[str, Stored] = {}
    for name, value in checkpoint["channel_values"].items():
        version = checkpoint["channel_versions"].get(name)
        before = known.get(name)
        if before is None or "value" in before.reference or before.version != version or name in new_versions:
            before, new = _store(before, values, namespace, name, version, value)
            entries |= new
        channels[name] = before
    row = Row(
        namespace,
        config["configurable"].get("checkpoint_id"),
        dict(get_checkpoint_metadata(config, metadata)),
        {name: part for name, part in checkpoint.items() if name != "channel_values"},
        {name: stored.reference for name, stored in channels.items()},
    )
    return Plan(row, entries | {row.name: row.value}, channels)


def _store(
    before: Stored | None, values: Values, namespace: str, name: str, version: object, value: Any
) -> tuple[Stored, dict[str, Any]]:
    """Return a value as it is stored, and the entries to write."""
    if type(value) is list and value and version is not None and values.keeps_elements:
        prefix = names.growths(namespace, name)
        growth, entries = lists.grow(before.growth if before else None, value, values, prefix)
        return Stored(version, {"list": growth.reference}, growth), entries
    encoded = values.encode(value)
    if version is None or len(str(encoded[-1])) <= _SMALL:
        return Stored(version, {"value": encoded}), {}
    return Stored(version, {"version": version}), {names.channel(namespace, name, version): encoded}


def task_entry(
    values: Values, task_id: str, task_path: str, checkpoint_id: str, writes: Sequence[tuple[str, Any]]
) -> dict[str, Any]:
    """Return what is stored of the writes of a task: each with its place, of special channels one below 0.

    What others write of the same task has another name, so that nothing that is written at once is lost.
    """
    return {
        "task": task_id,
        "path": task_path,
        "checkpoint": checkpoint_id,
        "replaces": all(channel in WRITES_IDX_MAP for channel, _ in writes),
        "writes": [
            [WRITES_IDX_MAP.get(channel, index), channel, values.encode(value)]
            for index, (channel, value) in enumerate(writes)
        ],
    }
