"""The task stores of the A2A SDK: each task is a context."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Final, cast

from a2a.server.cluster import ConcurrentTaskModificationError, TaskVersion, VersionedTaskStore
from a2a.server.cluster import StoredTask as VersionedTask
from a2a.server.context import ServerCallContext
from a2a.server.owner_resolver import OwnerResolver, resolve_user_scope
from a2a.server.tasks import TaskStore
from a2a.types.a2a_pb2 import ListTasksRequest, ListTasksResponse, Task, TaskState
from a2a.utils.constants import DEFAULT_LIST_TASKS_PAGE_SIZE

from taskctx_sql import ContextKey, ContextSummary, Feature, Run, RunOutcome, Store, Write
from taskctx_sql.errors import LostContextError, StaleContextError, UnsupportedByStoreError
from taskctx_sql.integrations import identity
from taskctx_sql.integrations.a2a import pages
from taskctx_sql.integrations.a2a.updates import FRAMEWORK, TYPES, Changes, Event, StoredTask, changes, stored_task

# How many of the tasks that were last saved or read are remembered, so that a save is one round trip.
_REMEMBERED: Final = 1000
_OUTCOMES: Final[dict[int, RunOutcome]] = {
    TaskState.TASK_STATE_COMPLETED: "completed",
    TaskState.TASK_STATE_FAILED: "failed",
    TaskState.TASK_STATE_REJECTED: "failed",
    TaskState.TASK_STATE_CANCELED: "cancelled",
}


class ContextTasks:
    """Tasks as contexts: what both kinds of task stores have in common."""

    def __init__(self, store: Store) -> None:
        """Keep tasks in a store."""
        if Feature.STATE not in store.features:
            raise UnsupportedByStoreError("write without loading", store.database_url, Feature.STATE.value)
        self._store = store
        self._tasks: OrderedDict[ContextKey, StoredTask] = OrderedDict()

    async def load(self, owner: str, task_id: str) -> StoredTask:
        """Return a task as it is now; its revision is 0 if the store does not have it."""
        key = task_key(owner, task_id)
        known = self._tasks.get(key)
        # To make a task of its updates takes longer than to ask whether there are others.
        if known is not None and (await self._store.load(key, history_limit=0)).base == known.base:
            return known
        loaded = await self._store.load(key, types=TYPES)
        stored = stored_task(task_id, loaded)
        self._remember(key, stored)
        return stored

    async def save(self, owner: str, task: Task, event: Event | None, *, revision: int | None) -> int:
        """Save a task, and return its new revision.

        Args:
            owner: Whose task it is.
            task: The task as it shall be.
            event: The event that made it so, if it is known.
            revision: The revision that the task was derived from, or None to replace whatever is there.

        Raises:
            StaleContextError: The stored task has another revision.
        """
        key = task_key(owner, task.id)
        stored = self._tasks.get(key)
        if stored is None and revision is None:
            # Most tasks that are saved without having been read are new. The write is refused if this one is not.
            stored = StoredTask(Task(id=task.id))
        while True:
            is_read = stored is None or revision not in (None, stored.revision)
            if stored is None or is_read:
                stored = await self.load(owner, task.id)
            if revision not in (None, stored.revision):
                raise StaleContextError(key, revision or 0, stored.revision)
            made = changes(stored, task, event)
            if is_read and not made.updates and not made.removed:
                return stored.revision
            if made.updates or made.removed:
                try:
                    return await self._write(key, stored, made)
                except StaleContextError:
                    if revision is not None:
                        raise
            # What is remembered may not be what is stored.
            stored = None

    async def delete(self, owner: str, task_id: str) -> None:
        """Erase a task."""
        key = task_key(owner, task_id)
        self._tasks.pop(key, None)
        await self._store.delete(key)

    async def list(self, owner: str, params: ListTasksRequest) -> ListTasksResponse:
        """Return a page of an owner's tasks, those whose status is newest first."""
        found = [task async for task in self._listed(owner, params)]
        found.sort(key=pages.Listed.sort_key, reverse=True)
        size = params.page_size or DEFAULT_LIST_TASKS_PAGE_SIZE
        page = pages.after_token(found, params.page_token)[: size + 1]
        tasks = await asyncio.gather(*(self.load(owner, listed.task_id) for listed in page[:size]))
        return ListTasksResponse(
            # One may have been deleted since.
            tasks=[stored.task for stored in tasks if stored.revision],
            total_size=len(found),
            page_size=size,
            next_page_token=page[size - 1].token if len(page) > size else None,
        )

    async def _listed(self, owner: str, params: ListTasksRequest) -> AsyncIterator[pages.Listed]:
        wanted = {"framework": FRAMEWORK, "kind": "task"}
        if params.context_id:
            wanted["conversation"] = identity.shorten(params.context_id)
        if params.status:
            wanted["status"] = TaskState.Name(params.status)
        since = params.status_timestamp_after.ToNanoseconds() if params.HasField("status_timestamp_after") else None
        after: ContextSummary | None = None
        user = owner or identity.ANONYMOUS
        while page := await self._store.contexts(user, after=after, limit=1000, labels=wanted):
            for context in page:
                listed = pages.Listed.of(context.labels)
                if since is None or (listed.timestamp is not None and listed.timestamp >= since):
                    yield listed
            after = page[-1]

    async def _write(self, key: ContextKey, stored: StoredTask, made: Changes) -> int:
        write = Write(
            key,
            updates=made.updates,
            remove_updates=made.removed,
            labels=_new_labels(stored, made.rest),
            if_revision=stored.revision,
            run=(run := _run(stored.run, made.rest)),
        )
        try:
            # With the base, a database needs to look up less.
            saved = await self._store.save(write.delta(stored.base))
        except LostContextError as error:
            # It was deleted, and perhaps made anew.
            self._tasks.pop(key, None)
            raise StaleContextError(key, stored.revision, 0) from error
        except BaseException:
            # It may have been written.
            self._tasks.pop(key, None)
            raise
        self._remember(key, stored.after(made, saved, run))
        return saved.revision

    def _remember(self, key: ContextKey, stored: StoredTask) -> None:
        known = self._tasks.pop(key, None)
        if known is not None and stored.run is None:
            stored.run = known.run
        self._tasks[key] = stored
        while len(self._tasks) > _REMEMBERED:
            self._tasks.popitem(last=False)


class ContextTaskStore(TaskStore):
    """A `TaskStore` of the A2A SDK: ``DefaultRequestHandler(task_store=ContextTaskStore(store), ...)``.

    Any number of processes may use it at once; the last save of a task stands. The history of each task, with what was
    replaced in it, is in the store's record.
    """

    def __init__(self, store: Store, owner_resolver: OwnerResolver = resolve_user_scope) -> None:
        """Keep tasks in a store.

        Args:
            store: An open store.
            owner_resolver: What returns the owner, given a call's context. Owners do not see each other's tasks.
        """
        self._tasks = ContextTasks(store)
        self._owner = owner_resolver

    async def save(self, task: Task, context: ServerCallContext) -> None:
        """Save a task, in one transaction, which writes what has changed."""
        await self._tasks.save(self._owner(context), task, None, revision=None)

    async def get(self, task_id: str, context: ServerCallContext) -> Task | None:
        """Return a task, or None if the owner has no such task."""
        stored = await self._tasks.load(self._owner(context), task_id)
        return stored.task if stored.revision else None

    async def list(self, params: ListTasksRequest, context: ServerCallContext) -> ListTasksResponse:
        """Return a page of the owner's tasks, those whose status is newest first."""
        return await self._tasks.list(self._owner(context), params)

    async def delete(self, task_id: str, context: ServerCallContext) -> None:
        """Erase a task."""
        await self._tasks.delete(self._owner(context), task_id)


class VersionedContextTaskStore(VersionedTaskStore):
    """A `VersionedTaskStore` of the A2A SDK, for servers of several processes.

    The version of a task is the revision of its context. `ContextEventStream` delivers the events to the others.
    """

    def __init__(self, store: Store, owner_resolver: OwnerResolver = resolve_user_scope) -> None:
        """Keep tasks in a store.

        Args:
            store: An open store.
            owner_resolver: What returns the owner, given a call's context. Owners do not see each other's tasks.
        """
        self._tasks = ContextTasks(store)
        self._owner = owner_resolver

    async def save(
        self,
        task: Task,
        *,
        event: Event | None,
        prev: Task | None,
        prev_version: TaskVersion,
        context: ServerCallContext,
    ) -> TaskVersion:
        """Save a task with the event that made it, in one transaction, if it is still at the previous version.

        Raises:
            ConcurrentTaskModificationError: Another process saved it meanwhile.
        """
        owner = self._owner(context)
        try:
            if task.status.state == TaskState.TASK_STATE_CANCELED:
                return TaskVersion(await self._cancel(owner, task, event))
            return TaskVersion(await self._tasks.save(owner, task, event, revision=revision_of(prev_version)))
        except StaleContextError as error:
            raise ConcurrentTaskModificationError(task.id) from error

    async def get(self, task_id: str, context: ServerCallContext) -> VersionedTask | None:
        """Return a task with its version, or None if the owner has no such task."""
        stored = await self._tasks.load(self._owner(context), task_id)
        return VersionedTask(stored.task, TaskVersion(stored.revision)) if stored.revision else None

    async def list(self, params: ListTasksRequest, context: ServerCallContext) -> ListTasksResponse:
        """Return a page of the owner's tasks, those whose status is newest first."""
        return await self._tasks.list(self._owner(context), params)

    async def delete(self, task_id: str, context: ServerCallContext) -> None:
        """Erase a task."""
        await self._tasks.delete(self._owner(context), task_id)

    async def _cancel(self, owner: str, task: Task, event: Event | None) -> int:
        """Save a task that is canceled over one of any version that has not ended."""
        while True:
            current = await self._tasks.load(owner, task.id)
            if not current.revision or current.rest.status.state in _OUTCOMES:
                raise ConcurrentTaskModificationError(task.id)
            with contextlib.suppress(StaleContextError):
                return await self._tasks.save(owner, task, event, revision=current.revision)


def task_key(owner: str, task_id: str) -> ContextKey:
    """Return the key of the context that is a task."""
    return identity.key(FRAMEWORK, owner, task_id)


def revision_of(version: TaskVersion) -> int:
    """Return the revision of a context that is a task's version; 0 if it is missing."""
    # The SDK gives versions to stores to compare, and has no other way to read what a store put into one.
    return cast(int, version._value)


def _new_labels(stored: StoredTask, task: Task) -> dict[str, str | None]:
    """Return the labels that are not those of the stored task."""
    new = pages.labels_of(task)
    if not stored.revision:
        return {name: value for name, value in new.items() if value is not None}
    old = pages.labels_of(stored.rest)
    return {name: value for name, value in new.items() if value != old[name]}


def _run(current: Run | None, task: Task) -> Run:
    now = time.time()
    run = Run(uuid.uuid4().hex, 1, now) if current is None else current.next_save()
    run.outcome = _OUTCOMES.get(task.status.state)
    run.ended_at = None if run.outcome is None else now
    run.error = None
    if run.outcome == "failed":
        text = " ".join(part.text for part in task.status.message.parts if part.text)
        run.error = text or TaskState.Name(task.status.state)
    return run
