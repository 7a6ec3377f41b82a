from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest
from a2a.server.cluster import ConcurrentTaskModificationError, TaskVersion, VersionedEvent
from a2a.server.context import ServerCallContext
from a2a.server.tasks import TaskManager
from a2a.types.a2a_pb2 import Task

from taskctx_sql import Store
from taskctx_sql.errors import ContextNotFoundError
from taskctx_sql.integrations.a2a import ContextEventStream, ContextTaskStore, VersionedContextTaskStore
from tests.integrations.a2a.tasks import (
    CANCELED,
    COMPLETED,
    WORKING,
    artifact,
    artifact_event,
    message,
    status,
    status_event,
    task,
)
from tests.support.waiting import SOON


@pytest.fixture
def task_id(user: str) -> str:
    """A task that no other test has: events are looked up over all owners."""
    return f"task-{user}"


async def first(events: AsyncGenerator[VersionedEvent, None], count: int) -> list[tuple[Any, TaskVersion]]:
    async with asyncio.timeout(SOON), aclosing(events):
        return [
            (found.event, found.version)
            for found, _ in zip([await anext(events) for _ in range(count)], range(count), strict=True)
        ]


async def processed(tasks: Any, caller: ServerCallContext, task_id: str) -> list[Any]:
    """Let the SDK process events, and return them."""
    manager = TaskManager(tasks, caller, None, None, message("Count."))
    made = task(task_id)
    made.history.append(message("Count."))
    working, done = task(task_id, WORKING), task(task_id, COMPLETED)
    working.status.CopyFrom(status(WORKING, "I count."))
    events: list[Any] = [
        made,
        status_event(working),
        artifact_event(made, artifact("a", "1")),
        artifact_event(made, artifact("a", "2"), append=True),
        artifact_event(made, artifact("b", "3")),
        artifact_event(made, artifact("a", "4")),
        status_event(done),
    ]
    copies = [type(event).FromString(event.SerializeToString()) for event in events]
    for event in events:
        await manager.process(event)
    assert (await tasks.get(task_id, caller)) is not None
    return copies


async def test_events_arrive_as_they_were_with_their_versions(
    store: Store, caller: ServerCallContext, task_id: str
) -> None:
    stream = ContextEventStream(store, poll_interval=0.2)
    waiting = asyncio.create_task(first(stream.subscribe(task_id, after=TaskVersion.MISSING), 7))
    events = await processed(VersionedContextTaskStore(store), caller, task_id)
    assert await waiting == [(event, TaskVersion(number)) for number, event in enumerate(events, 1)]
    later = await first(stream.subscribe(task_id, after=TaskVersion(4)), 3)
    assert later == [(event, TaskVersion(number)) for number, event in enumerate(events[4:], 5)]


async def test_a_version_that_is_still_to_come_is_waited_for(
    store: Store, caller: ServerCallContext, task_id: str
) -> None:
    tasks, saved = ContextTaskStore(store), task(task_id)
    await tasks.save(saved, caller)
    waiting = asyncio.create_task(first(ContextEventStream(store).subscribe(task_id, after=TaskVersion(2)), 1))
    assert not (await asyncio.wait([waiting], timeout=0.2))[0]
    for day in (1, 2):
        saved.status.CopyFrom(status(WORKING, day=day))
        await tasks.save(saved, caller)
    assert await waiting == [(status_event(saved), TaskVersion(3))]


async def test_an_event_is_delivered_even_if_it_was_replaced_since(
    store: Store, caller: ServerCallContext, task_id: str
) -> None:
    tasks, saved = VersionedContextTaskStore(store), task(task_id)
    version = await tasks.save(saved, event=saved, prev=None, prev_version=TaskVersion.MISSING, context=caller)
    events = [artifact_event(saved, artifact("a", str(number))) for number in range(3)]
    for event in events:
        saved.ClearField("artifacts")
        saved.artifacts.append(event.artifact)
        version = await tasks.save(saved, event=event, prev=None, prev_version=version, context=caller)
    found = await first(
        ContextEventStream(store, owner=caller.user.user_name).subscribe(task_id, after=TaskVersion(1)), 3
    )
    assert [event for event, _ in found] == events


async def test_a_task_that_is_saved_without_events_is_followed_by_its_changes(
    store: Store, caller: ServerCallContext, task_id: str
) -> None:
    tasks, saved = ContextTaskStore(store), task(task_id)
    saved.history.append(message("one"))
    versions = []
    for change in (
        lambda: None,
        lambda: saved.status.CopyFrom(status(WORKING)),
        lambda: saved.artifacts.append(artifact("a", "1")),
        lambda: saved.artifacts[0].parts.extend(artifact("a", "2").parts),
        lambda: saved.metadata.update({"a": 1}),
    ):
        change()
        await tasks.save(saved, caller)
        versions.append(Task.FromString(saved.SerializeToString()))
    found = [
        event for event, _ in await first(ContextEventStream(store).subscribe(task_id, after=TaskVersion.MISSING), 5)
    ]
    assert found == [
        versions[0],
        status_event(versions[1]),
        artifact_event(saved, artifact("a", "1")),
        artifact_event(saved, type(saved.artifacts[0])(artifact_id="a", parts=artifact("a", "2").parts), append=True),
        versions[4],
    ]


async def test_a_stale_save_is_refused(store: Store, caller: ServerCallContext, task_id: str) -> None:
    one, other = VersionedContextTaskStore(store), VersionedContextTaskStore(store)
    saved = task(task_id)
    version = await one.save(saved, event=saved, prev=None, prev_version=TaskVersion.MISSING, context=caller)
    with pytest.raises(ConcurrentTaskModificationError):
        await other.save(saved, event=saved, prev=None, prev_version=TaskVersion.MISSING, context=caller)
    saved.status.CopyFrom(status(WORKING))
    await other.save(saved, event=status_event(saved), prev=None, prev_version=version, context=caller)
    for tasks in (one, other):
        with pytest.raises(ConcurrentTaskModificationError):
            await tasks.save(saved, event=status_event(saved), prev=None, prev_version=version, context=caller)
    stored = await one.get(task_id, caller)
    assert stored is not None
    assert (stored.task, stored.version) == (saved, TaskVersion(2))


async def test_canceling_overwrites_a_task_that_has_not_ended(
    store: Store, caller: ServerCallContext, task_id: str
) -> None:
    tasks, saved = VersionedContextTaskStore(store), task(task_id)
    canceled = task(task_id, CANCELED)
    stale: dict[str, Any] = {"event": status_event(canceled), "prev": None, "prev_version": TaskVersion.MISSING}
    with pytest.raises(ConcurrentTaskModificationError):
        await tasks.save(canceled, **stale, context=caller)
    await tasks.save(saved, event=saved, prev=None, prev_version=TaskVersion.MISSING, context=caller)
    assert await tasks.save(canceled, **stale, context=caller) == TaskVersion(2)
    with pytest.raises(ConcurrentTaskModificationError):
        await tasks.save(canceled, **stale, context=caller)


async def test_a_task_that_is_deleted_ends_its_events(store: Store, caller: ServerCallContext, task_id: str) -> None:
    tasks = ContextTaskStore(store)
    await tasks.save(task(task_id), caller)
    events = ContextEventStream(store, poll_interval=0.1).subscribe(task_id, after=TaskVersion.MISSING)
    async with asyncio.timeout(SOON), aclosing(events):
        await anext(events)
        await tasks.delete(task_id, caller)
        with pytest.raises(ContextNotFoundError):
            await anext(events)
