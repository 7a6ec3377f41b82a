"""The event stream of the A2A SDK: what other processes do to a task, by watching its context."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from a2a.server.cluster import TaskEventStream, TaskVersion, VersionedEvent
from a2a.types.a2a_pb2 import Task

from taskctx_sql import ContextKey, Store
from taskctx_sql.errors import RevisionNotFoundError
from taskctx_sql.integrations import identity, recording
from taskctx_sql.integrations.a2a.task_store import revision_of, task_key
from taskctx_sql.integrations.a2a.updates import FRAMEWORK, TYPES, event_of, stored_task


class ContextEventStream(TaskEventStream):
    """A `TaskEventStream` of the A2A SDK: it yields what a task store of ours saves, in whichever process.

    The events are part of the tasks' contexts, so there is nothing to publish or to destroy.
    """

    def __init__(self, store: Store, *, owner: str | None = None, poll_interval: float = 1.0) -> None:
        """Watch the tasks in a store.

        Args:
            store: An open store.
            owner: Whose tasks; None: all owners', which row-level security does not allow.
            poll_interval: The longest time in seconds until an event is delivered if no notification arrives.
        """
        self._store, self._owner, self._poll_interval = store, owner, poll_interval

    async def publish(self, task_id: str, event: VersionedEvent) -> None:
        """Do nothing: the task store has written the event with the task."""

    async def subscribe(self, task_id: str, *, after: TaskVersion) -> AsyncGenerator[VersionedEvent, None]:
        """Yield the events of a task that are newer than a version, each once, in order.

        It waits for a task that is not there yet, and never ends by itself.

        Raises:
            ContextNotFoundError: The task was deleted.
            RowLevelSecurityError: The stream is for all owners, and they are hidden from each other.
            StoreError: The store failed.
        """
        while (key := await self._find(task_id)) is None:  # noqa: ASYNC110  # there is nothing to watch yet
            await asyncio.sleep(self._poll_interval)
        revision = revision_of(after)
        seq, created_at = await self._start(key, revision)
        following = self._store.watch(key, after=seq, created_at=created_at, poll_interval=self._poll_interval)
        async with aclosing(following) as updates:
            async for stored in updates:
                version = stored.update.metadata.get("version", 0)
                if stored.update.update_type != recording.EVENT or version <= revision:
                    continue
                event = event_of(stored.update.data)
                if isinstance(event, Task):
                    # Its history is in updates of its own.
                    loaded = await self._store.load(key, types=TYPES, revision=version)
                    event = stored_task(task_id, loaded, revision=version).task
                yield VersionedEvent(event, TaskVersion(version))

    async def destroy(self, task_id: str) -> None:
        """Do nothing: what is kept of a task is up to its store."""

    async def _find(self, task_id: str) -> ContextKey | None:
        if self._owner is not None:
            key = task_key(self._owner, task_id)
            return key if (await self._store.load(key, history_limit=0)).revision else None
        labels = identity.labels(FRAMEWORK, task=task_id, kind="task")
        found = await self._store.contexts(None, labels=labels, limit=1)
        return ContextKey(found[0].user_id, found[0].chat_id) if found else None

    async def _start(self, key: ContextKey, revision: int) -> tuple[int, float | None]:
        """Return a seq that no event after a revision has, and few before it, and when its context was created."""
        if revision == 0:
            return 0, None
        try:
            loaded = await self._store.load(key, history_limit=1, revision=revision)
        except RevisionNotFoundError:
            return 0, None
        return max(loaded.seqs, default=0), loaded.created_at
