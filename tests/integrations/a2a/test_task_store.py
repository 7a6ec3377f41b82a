from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from a2a.server.context import ServerCallContext
from a2a.server.tasks import InMemoryTaskStore, TaskManager
from a2a.types.a2a_pb2 import ListTasksRequest, Message, Part, Role, Task
from google.protobuf.json_format import MessageToDict

from taskctx_sql import ContextKey, Store, open_store
from taskctx_sql.errors import StoreClosedError
from taskctx_sql.integrations.a2a import ContextTaskStore
from taskctx_sql.integrations.a2a.messages import parse_message
from taskctx_sql.integrations.a2a.task_store import task_key
from tests.integrations.a2a.tasks import (
    COMPLETED,
    FAILED,
    SUBMITTED,
    WORKING,
    artifact,
    artifact_event,
    called_by,
    message,
    status,
    status_event,
    task,
)


def copy_of(saved: Task) -> Task:
    copy = Task()
    copy.CopyFrom(saved)
    return copy


def append_parts(saved: Task) -> None:
    saved.artifacts[0].parts.extend(artifact("a", "more").parts)


def rewrite_part(saved: Task) -> None:
    saved.artifacts[0].parts[0].text = "rewritten"


def reorder(saved: Task) -> None:
    first, second = copy_of(saved).artifacts
    saved.artifacts[0].CopyFrom(second)
    saved.artifacts[1].CopyFrom(first)


def rewrite_history(saved: Task) -> None:
    saved.history[1].CopyFrom(message("rewritten"))


CHANGES: list[Callable[[Task], Any]] = [
    lambda saved: saved.history.append(message("three")),
    lambda saved: saved.status.CopyFrom(status(COMPLETED, "done", 3)),
    lambda saved: saved.metadata.update({"a": {"b": [1, None, "x"]}}),
    lambda saved: saved.ClearField("metadata"),
    lambda saved: saved.ClearField("history"),
    lambda saved: saved.artifacts.append(artifact("c", "3")),
    lambda saved: saved.artifacts.pop(0),
    lambda saved: setattr(saved, "context_id", "c2"),
    append_parts,
    rewrite_part,
    reorder,
    rewrite_history,
]


def full(task_id: str = "t1") -> Task:
    made = task(task_id, WORKING, day=2)
    made.history.extend([message("one"), message("two")])
    made.artifacts.extend([artifact("a", "1", "2"), artifact("b")])
    made.metadata.update({"n": 1.5, "nested": {"list": [True, ""]}})
    return made


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("is_fresh", [False, True])
async def test_a_task_comes_back_as_it_was_saved(
    change: Callable[[Task], Any], is_fresh: bool, store: Store, caller: ServerCallContext
) -> None:
    tasks = ContextTaskStore(store)
    saved = full()
    await tasks.save(saved, caller)
    change(saved)
    await (ContextTaskStore(store) if is_fresh else tasks).save(saved, caller)
    assert await tasks.get("t1", caller) == saved


async def test_any_changes_come_back(store: Store, caller: ServerCallContext) -> None:
    """Some changes one after another, by two processes in turn."""
    chance = random.Random(1)
    processes = [ContextTaskStore(store), ContextTaskStore(store)]
    saved = full()
    for _ in range(40):
        try:
            chance.choice(CHANGES)(saved)
        except (IndexError, ValueError):
            saved = full()
        await chance.choice(processes).save(saved, caller)
        assert await chance.choice(processes).get("t1", caller) == saved


async def test_a_save_writes_only_what_is_new(store: Store, caller: ServerCallContext, user: str) -> None:
    tasks, saved = ContextTaskStore(store), full()
    await tasks.save(saved, caller)
    for number in range(3):
        saved.history.append(message(f"next {number}"))
        saved.artifacts[-1].parts.extend(artifact("b", f"chunk {number}").parts)
        await tasks.save(saved, caller)
    await tasks.save(saved, caller)
    found = await store.revisions(task_key(user, "t1"))
    assert [(revision.added, revision.removed) for revision in found] == [(2, 0)] * 3 + [(3, 0)]


async def test_what_an_artifact_was_replaced_by_is_not_read_with_it(
    store: Store, caller: ServerCallContext, user: str
) -> None:
    tasks, saved = ContextTaskStore(store), full()
    for number in range(5):
        saved.artifacts[-1].CopyFrom(artifact("b", f"version {number}"))
        await tasks.save(saved, caller)
    assert len((await store.load(task_key(user, "t1"))).history) == 4
    assert await tasks.get("t1", caller) == saved


async def test_artifacts_stay_in_their_order(store: Store, caller: ServerCallContext) -> None:
    tasks, saved = ContextTaskStore(store), task("t1")
    await tasks.save(saved, caller)
    for made in (artifact("a", "1"), artifact("b", "2")):
        saved.artifacts.append(made)
        await tasks.save(saved, caller)
    saved.artifacts[0].CopyFrom(artifact("a", "rewritten"))
    await tasks.save(saved, caller)
    assert await ContextTaskStore(store).get("t1", caller) == saved


async def test_owners_do_not_see_each_other(store: Store, user: str) -> None:
    tasks = ContextTaskStore(store)
    ann, bob = called_by(f"{user}-ann"), called_by(f"{user}-bob")
    await tasks.save(task("t1", WORKING), ann)
    await tasks.save(task("t1", FAILED), bob)
    await tasks.delete("t1", bob)
    found = await tasks.get("t1", ann)
    assert found is not None
    assert found.status.state == WORKING
    assert await tasks.get("t1", bob) is None
    assert (await tasks.list(ListTasksRequest(), bob)).total_size == 0


async def test_a_list_is_that_of_the_store_in_memory(store: Store, caller: ServerCallContext) -> None:
    theirs, ours = InMemoryTaskStore(), ContextTaskStore(store)
    for number in range(12):
        made = task(f"t{number}", (SUBMITTED, WORKING)[number % 2], day=number % 4 or None, context=f"c{number % 3}")
        for tasks in (theirs, ours):
            await tasks.save(made, caller)
    requests = [
        ListTasksRequest(page_size=size, context_id=context, status=state)
        for size in (0, 1, 5, 12)
        for context in ("", "c1", "none")
        for state in (None, WORKING)
    ]
    for since in (1, 3):
        requests.append(ListTasksRequest(page_size=2))
        requests[-1].status_timestamp_after.CopyFrom(status(WORKING, day=since).timestamp)
    for request in requests:
        while True:
            expected, found = await theirs.list(request, caller), await ours.list(request, caller)
            assert found == expected
            if not found.next_page_token:
                break
            request.page_token = found.next_page_token


async def test_a_token_of_earlier_versions_names_the_first_task(store: Store, caller: ServerCallContext) -> None:
    theirs, ours = InMemoryTaskStore(), ContextTaskStore(store)
    for number in range(3):
        for tasks in (theirs, ours):
            await tasks.save(task(f"t{number}"), caller)
    request = ListTasksRequest(page_token="dDE=")
    assert await ours.list(request, caller) == await theirs.list(request, caller)
    for token in ("invalid", "dDk="):
        messages = []
        for tasks in (theirs, ours):
            with pytest.raises(Exception, match=r"[Tt]oken") as raised:
                await tasks.list(ListTasksRequest(page_token=token), caller)
            messages.append((type(raised.value), str(raised.value)))
        assert messages[0] == messages[1]


async def test_a_task_is_run_by_the_sdk(store: Store, caller: ServerCallContext, user: str) -> None:
    tasks = ContextTaskStore(store)
    manager = TaskManager(tasks, caller, None, None, message("Count."))
    made = task("t1", SUBMITTED, day=1)
    await manager.process(made)
    for state, text in ((WORKING, "I count."), (COMPLETED, "Three.")):
        changed = task("t1", state)
        changed.status.CopyFrom(status(state, text))
        await manager.process(status_event(changed))
        await manager.process(artifact_event(made, artifact(text, "3")))
    found = await tasks.get("t1", caller)
    assert found == await manager.get_task()
    key = task_key(user, "t1")
    (run,) = await store.reports.context_runs(key)
    assert (run.outcome, run.error) == ("completed", None)
    updates = [(update.update_type, update.metadata.get("role")) for update in (await store.load(key)).history]
    assert updates.count(("message", "assistant")) == 1
    (listed,) = await store.contexts(user)
    assert listed.labels == {
        **{"framework": "a2a", "task": "t1", "kind": "task", "conversation": "c1"},
        "status": "TASK_STATE_COMPLETED",
    }


async def test_a_task_that_was_made_anew_elsewhere_is_read_anew(store: Store, caller: ServerCallContext) -> None:
    here, elsewhere = ContextTaskStore(store), ContextTaskStore(store)
    await here.save(full(), caller)
    await elsewhere.delete("t1", caller)
    assert await here.get("t1", caller) is None
    await here.save(full(), caller)
    await elsewhere.delete("t1", caller)
    await elsewhere.save(task("t1"), caller)
    assert await here.get("t1", caller) == task("t1")
    assert (await here.list(ListTasksRequest(), caller)).tasks[0] == task("t1")
    await here.save(full(), caller)
    assert await elsewhere.get("t1", caller) == full()


async def test_a_failed_task_is_a_failed_run(store: Store, caller: ServerCallContext, user: str) -> None:
    tasks, saved = ContextTaskStore(store), full()
    await tasks.save(saved, caller)
    saved.status.CopyFrom(status(FAILED, "out of memory"))
    await tasks.save(saved, caller)
    (run,) = await store.reports.context_runs(task_key(user, "t1"))
    assert (run.outcome, run.error) == ("failed", "out of memory")


async def test_the_last_of_several_saves_stands(store: Store, caller: ServerCallContext) -> None:
    processes = [ContextTaskStore(store) for _ in range(3)]
    versions = [full() for _ in range(9)]
    for number, version in enumerate(versions):
        version.history.append(message(str(number)))
    await asyncio.gather(*(processes[number % 3].save(version, caller) for number, version in enumerate(versions)))
    assert await processes[0].get("t1", caller) in versions


async def test_a_store_that_fails_raises_its_own_error(database_url: str, caller: ServerCallContext) -> None:
    async with open_store(database_url) as store:
        tasks = ContextTaskStore(store)
    with pytest.raises(StoreClosedError):
        await tasks.save(full(), caller)


def test_an_owner_without_a_name_is_anonymous() -> None:
    assert task_key("", "t/1") == ContextKey("anonymous", "a2a/t%2F1")


async def test_a_new_task_is_saved_without_being_read(
    store: Store, caller: ServerCallContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = Mock(wraps=store.load)
    monkeypatch.setattr(store, "load", loads)
    tasks, saved = ContextTaskStore(store), full()
    await tasks.save(saved, caller)
    saved.history.append(message("more"))
    await tasks.save(saved, caller)
    assert loads.call_count == 0


def test_messages_are_parsed_as_the_sdk_does() -> None:
    rich = Message(message_id="m", extensions=["e"], reference_task_ids=["t"], context_id="c", task_id="t1")
    rich.parts.extend([Part(text="x", media_type="text/plain"), Part(url="https://example.org", filename="f"), Part()])
    plain, described = Message(message_id="n", role=Role.ROLE_AGENT), Message(parts=[Part(raw=b"\x00")])
    described.metadata.update({"a": 1})
    given, history = [rich, plain, Message(), described], Task().history
    for one in given:
        parse_message(MessageToDict(one), history)
    assert list(history) == given
