"""What a saver does, in the event loop of its store. `saver` is its face."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.types import TASKS

from taskctx_sql import ContextKey, Store
from taskctx_sql.errors import LostContextError
from taskctx_sql.integrations.langgraph import names
from taskctx_sql.integrations.langgraph.filters import contains
from taskctx_sql.integrations.langgraph.reading import Contents, Reader, rows_of
from taskctx_sql.integrations.langgraph.row import Row, next_version
from taskctx_sql.integrations.langgraph.thread import Known, Thread, plan, task_entry
from taskctx_sql.integrations.langgraph.threads import Place, Threads
from taskctx_sql.integrations.langgraph.values import Values

_PAGE: Final = 50
# A checkpoint and the writes of a task, which is what most steps have, and one more of every other step.
_ENTRIES_OF_ONE: Final = 3


class Checkpoints:
    """Writes and reads the checkpoints of threads."""

    def __init__(self, store: Store, threads: Threads) -> None:
        self._store, self._threads = store, threads

    async def put(
        self,
        values: Values,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Write a checkpoint, and what it has that is not stored yet."""
        configurable = config["configurable"]
        key, thread_id = self._threads.key(configurable), str(configurable["thread_id"])
        namespace = configurable.get("checkpoint_ns", "")
        thread = self._threads.thread(key, thread_id)
        async with thread.putting:
            try:
                is_written = await self._put(thread, values, config, checkpoint, metadata, new_versions)
                updates = 0
            except LostContextError:
                is_written, updates = False, 1
            if not is_written:
                # Another process deleted the thread, so nothing of what is known is stored any more.
                thread = self._anew(key, thread_id)
                await self._put(thread, values, config, checkpoint, metadata, new_versions, updates=updates)
        return self._threads.config(configurable, namespace, checkpoint["id"])

    def _anew(self, key: ContextKey, thread_id: str) -> Thread:
        self._threads.forget(key)
        return self._threads.thread(key, thread_id)

    async def _put(
        self,
        thread: Thread,
        values: Values,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
        *,
        updates: int = 1,
    ) -> bool:
        """Write a checkpoint; return False if the thread does not have what the checkpoint refers to."""
        namespace = config["configurable"].get("checkpoint_ns", "")
        known = thread.known.get(namespace)
        planned = plan(thread, values, config, checkpoint, metadata, new_versions)
        saved = await thread.write(planned.entries, [planned.row.update()] * updates)
        if not await thread.has(known, saved):
            return False
        channels = ({} if known is None else known.channels) | planned.channels
        thread.learn(namespace, Known(channels, saved.created_at), planned.entries)
        return True

    async def put_writes(
        self,
        values: Values,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str,
    ) -> None:
        """Write what a task adds, which awaits the next checkpoint."""
        configurable = config["configurable"]
        namespace, checkpoint_id = configurable.get("checkpoint_ns", ""), str(configurable["checkpoint_id"])
        key, thread_id = self._threads.key(configurable), str(configurable["thread_id"])
        entry = {
            names.task(namespace, checkpoint_id, task_id): task_entry(values, task_id, task_path, checkpoint_id, writes)
        }
        try:
            await self._threads.thread(key, thread_id).write(entry)
        except LostContextError:
            await self._anew(key, thread_id).write(entry)

    async def get(self, values: Values, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint with its values and writes, or None."""
        configurable = config["configurable"]
        key = self._threads.key(configurable)
        reader = self._threads.reader(key, values)
        row = await reader.row(configurable.get("checkpoint_ns", ""), configurable.get("checkpoint_id"))
        if row is None:
            return None
        contents = await reader.contents([row])
        found = await self._tuple(reader, configurable, row, contents)
        thread = self._threads.thread(key, str(configurable["thread_id"]))
        # What this checkpoint does not have may have been removed since, by another program.
        stored = reader.stored(row, found.checkpoint["channel_values"], contents)
        thread.learn(row.namespace, Known(stored, read=(row.name, row.saved_at)))
        return found

    async def find(
        self,
        values: Values,
        config: RunnableConfig | None,
        wanted: Mapping[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Yield checkpoints, the newest first, of one thread or of all."""
        left = float("inf") if limit is None else limit
        page: list[tuple[Place, Row]] = []
        async for place, row in self._rows(values, config, before, None if wanted else limit):
            if left <= len(page):
                break
            if wanted is None or contains(row.metadata, wanted):
                page.append((place, row))
            if len(page) == _PAGE:
                for found in await self._page(values, page):
                    yield found
                left, page = left - len(page), []
        for found in await self._page(values, page):
            yield found

    async def _rows(
        self, values: Values, config: RunnableConfig | None, before: RunnableConfig | None, limit: int | None
    ) -> AsyncIterator[tuple[Place, Row]]:
        """Yield the checkpoints of a configuration, the newest first."""
        configurable = config["configurable"] if config else {}
        end = before["configurable"].get("checkpoint_id") if before else None
        namespace, only = configurable.get("checkpoint_ns"), configurable.get("checkpoint_id")
        if "thread_id" in configurable and namespace is not None and not only:
            place: Place = (self._threads.key(configurable), configurable)
            first = _PAGE if limit is None else min(max(limit, 1) * _ENTRIES_OF_ONE, _PAGE)
            async for row in self._threads.reader(place[0], values).rows(namespace, end, first):
                yield place, row
            return
        places = (
            [(self._threads.key(configurable), configurable)]
            if "thread_id" in configurable
            else await self._threads.places()
        )
        found = []
        for place in places:
            rows = rows_of(await self._threads.reader(place[0], values).entries("checkpoint/"))
            found += [(place, row) for row in rows if namespace in (None, row.namespace) and only in (None, "", row.id)]
        for place, row in sorted(found, key=lambda pair: pair[1].id, reverse=True):
            if end is None or row.id < end:
                yield place, row

    async def _page(self, values: Values, page: Sequence[tuple[Place, Row]]) -> Sequence[CheckpointTuple]:
        """Return checkpoints with their values and writes, which are read together for each namespace."""
        together: dict[tuple[ContextKey, str], list[Row]] = defaultdict(list)
        for (key, _), row in page:
            together[key, row.namespace].append(row)
        contents = {
            (key, namespace): await self._threads.reader(key, values).contents(rows)
            for (key, namespace), rows in together.items()
        }
        return [
            await self._tuple(self._threads.reader(key, values), configurable, row, contents[key, row.namespace])
            for (key, configurable), row in page
        ]

    async def _tuple(
        self, reader: Reader, configurable: Mapping[str, Any], row: Row, contents: Contents
    ) -> CheckpointTuple:
        checkpoint = row.checkpoint | {"channel_values": reader.values(row, contents)}
        if sends := await reader.sends(row):
            versions = checkpoint["channel_versions"]
            checkpoint["channel_values"][TASKS] = sends
            checkpoint["channel_versions"] = versions | {TASKS: max(versions.values(), default=next_version(None))}
        return CheckpointTuple(
            self._threads.config(configurable, row.namespace, row.id),
            cast(Checkpoint, checkpoint),
            cast(CheckpointMetadata, row.metadata),
            self._threads.config(configurable, row.namespace, row.parent) if row.parent else None,
            reader.writes(row.tasks),
        )

    async def history(
        self, values: Values, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return what delta channels are put together from: the writes of each since its last whole value, and that."""
        configurable = config["configurable"]
        reader = self._threads.reader(self._threads.key(configurable), values)
        namespace, checkpoint_id = configurable.get("checkpoint_ns", ""), configurable.get("checkpoint_id")
        row = await reader.row(namespace, checkpoint_id, ancestors=True)
        found: dict[str, DeltaChannelHistory] = {channel: {"writes": []} for channel in channels}
        # The ancestors whose writes a channel has, from the checkpoint's parent to the one that has its value.
        ancestors: list[Row] = []
        depth: dict[str, int] = {}
        if row is not None and channels:
            async for ancestor in reader.ancestors(row):
                ancestors.append(ancestor)
                depth |= {name: len(ancestors) for name in channels if name in ancestor.values and name not in depth}
                if len(depth) == len(found):
                    break
        contents = await reader.contents(ancestors, channels=channels)
        writes = [reader.writes(ancestor.tasks) for ancestor in ancestors]
        for channel, history in found.items():
            for of_one in reversed(writes[: depth.get(channel)]):
                history["writes"] += [write for write in of_one if write[1] == channel]
            if channel in depth:
                history["seed"] = reader.value(ancestors[depth[channel] - 1], channel, contents)
        return found
