"""What a ContextEngine writes beside its cache is in the store, and comes back."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import fakeredis
import pytest
from aiecs.core.interface.storage_interface import IPermanentStorageBackend
from aiecs.domain.context.context_engine import ContextEngine
from aiecs.infrastructure.persistence import redis_client

from taskctx_sql import ContextKey, Store
from taskctx_sql.errors import StoreError
from taskctx_sql.integrations.aiecs import PermanentBackend, install


@pytest.fixture
async def backend(opened: Store) -> AsyncIterator[PermanentBackend]:
    backend = PermanentBackend(opened)
    yield backend
    await backend.close()


@pytest.fixture
def key(user: str) -> ContextKey:
    return ContextKey(user, f"aiecs/{user}")


async def worked_on(backend: PermanentBackend, session: str, user: str) -> ContextEngine:
    """An engine that had a session with two messages."""
    engine = ContextEngine(permanent_backend=backend)
    await engine.create_session(session, user, {"prompt": "x"})
    await engine.add_conversation_message(session, "user", "one", {"source": "web"})
    await engine.add_conversation_message(session, "assistant", "two")
    return engine


def test_it_has_every_method_of_the_interface_with_the_same_arguments() -> None:
    names = IPermanentStorageBackend.__abstractmethods__
    for name in names:
        asked = inspect.signature(getattr(IPermanentStorageBackend, name)).parameters
        assert list(inspect.signature(getattr(PermanentBackend, name)).parameters) == list(asked)


async def test_messages_and_metrics_come_back_as_the_engine_has_them(
    opened: Store, backend: PermanentBackend, key: ContextKey, user: str
) -> None:
    engine = await worked_on(backend, user, user)
    history = [message.to_dict() for message in await engine.get_conversation_history(user)]
    assert [message["content"] for message in history] == ["one", "two"]
    # Another process, which no event has told the user.
    other = PermanentBackend(opened)
    assert await other.get_conversation_history(user) == history
    assert await other.get_conversation_history(user, 1) == history[1:]
    assert await other.get_session(user) == await engine.get_session(user)
    assert await other.get_session("another") is None
    stored = [one.update for one in (await opened.load(key)).updates]
    assert [update.update_type for update in stored] == ["event", "message", "event", "message", "event"]
    assert stored[1].metadata == {"framework": "aiecs", "role": "user"}
    assert abs(stored[1].timestamp - stored[0].timestamp) < 60
    labels = {entry.name: entry.value for entry in await opened.state(key, kind="label")}
    assert labels == {"framework": "aiecs", "session": user}


async def test_another_process_writes_to_the_session_of_its_user(
    opened: Store, backend: PermanentBackend, key: ContextKey, user: str
) -> None:
    await worked_on(backend, user, user)
    await PermanentBackend(opened).append_conversation_message(user, "user", "three")
    assert [one["content"] for one in await backend.get_conversation_history(user)] == ["one", "two", "three"]


@pytest.mark.parametrize(("status", "outcome"), [("completed", "completed"), ("failed", "failed")])
async def test_the_end_of_a_session_ends_its_run(
    opened: Store, backend: PermanentBackend, key: ContextKey, user: str, status: str, outcome: str
) -> None:
    engine = await worked_on(backend, user, user)
    await engine.end_session(user, status)
    (run,) = await opened.reports.context_runs(key)
    assert (run.outcome, run.saves) == (outcome, 7)


async def test_closing_the_engine_ends_the_runs_and_leaves_the_callers_store_open(
    opened: Store, backend: PermanentBackend, key: ContextKey, user: str
) -> None:
    engine = await worked_on(backend, user, user)
    await engine.close()
    assert [run.outcome for run in await opened.reports.context_runs(key)] == ["completed"]


async def test_checkpoints_and_their_writes_come_back(backend: PermanentBackend, user: str) -> None:
    engine = ContextEngine(permanent_backend=backend)
    for number, checkpoint in enumerate(["b/1", "a", "b"]):
        await engine.put_checkpoint(user, checkpoint, {"step": number}, {"source": "loop"})
    await engine.put_writes(user, "b", "task 2", [("channel", 2)])
    await engine.put_writes(user, "b", "task/1", [("channel", {"x": 1}), ("other", None)])
    assert await backend.get_checkpoint(user, "b/1") == await engine.get_checkpoint(user, "b/1")
    assert (await backend.get_checkpoint(user) or {})["checkpoint_id"] == "b"
    assert [one["checkpoint_id"] for one in await backend.list_checkpoints(user, 2)] == ["b", "a"]
    assert await backend.list_checkpoints("another") == []
    assert await backend.get_checkpoint("another") is None
    expected = [("channel", 2), ("channel", {"x": 1}), ("other", None)]
    assert await backend.get_writes(user, "b") == expected
    assert await backend.get_writes(user, "b/1") == []


async def test_a_conversation_of_agents_comes_back(backend: PermanentBackend, user: str) -> None:
    engine = ContextEngine(permanent_backend=backend)
    people = [{"id": "a", "type": "agent", "role": "writer"}, {"id": "b", "type": "agent", "role": "critic"}]
    session_key = await engine.create_conversation_session(user, people, "agent_to_agent")
    said = ("a", "agent", "writer", "b", "agent", "critic", "hello")
    await engine.add_agent_communication_message(session_key, *said)
    found = await backend.get_conversation_session(session_key) or {}
    assert [one["participant_id"] for one in found["participants"]] == ["a", "b"]
    (message,) = await backend.get_conversation_history(session_key)
    assert (message["content"], message["metadata"]["recipient_id"]) == ("hello", "b")


async def test_snapshots_of_a_context_store_only_what_changed(
    opened: Store, backend: PermanentBackend, key: ContextKey, user: str
) -> None:
    engine = await worked_on(backend, user, user)
    context = await engine.get_task_context(user)
    for number in range(250):
        context.add_context_update("message", f"update {number}")
    await engine.store_task_context(user, context)
    before = (await opened.load(key)).revision
    context.add_context_update("message", "last")
    await engine.store_task_context(user, context)
    assert await backend.get_task_context(user) == context.to_dict()
    after = (await opened.load(key)).revision
    changes = await opened.difference(key, before, after)
    assert [name for name in changes.state if name.startswith("task_context")] == ["task_context/00000200"]
    assert len((await backend.get_task_context(user, revision=before) or {})["context_history"]) == 250
    # What another process wrote is compared with what is there.
    await PermanentBackend(opened).append_task_context_snapshot(user, context.to_dict())
    assert (await opened.load(key)).revision == after
    del context.context_history[150:]
    await engine.store_task_context(user, context)
    assert len((await backend.get_task_context(user) or {})["context_history"]) == 150


async def test_snapshots_of_two_processes_are_never_mixed(
    opened: Store, backend: PermanentBackend, key: ContextKey, user: str
) -> None:
    def snapshot(first: str, last: str) -> dict[str, Any]:
        return {"context_history": [first] * 100 + [last] * 50, "metadata": {}}

    other = PermanentBackend(opened, user_id=user)
    await worked_on(backend, user, user)
    await backend.append_task_context_snapshot(user, snapshot("a", "a"))
    await other.append_task_context_snapshot(user, snapshot("b", "a"))
    # What this process has written before it writes its own snapshot is newer than the other one's.
    await backend.append_conversation_message(user, "user", "three")
    await backend.append_task_context_snapshot(user, snapshot("a", "c"))
    assert await backend.get_task_context(user) == snapshot("a", "c")
    await asyncio.gather(
        *(
            process.append_task_context_snapshot(user, snapshot(f"{number}", f"{number}"))
            for number in range(10)
            for process in (backend, other)
        )
    )
    found = await other.get_task_context(user) or {}
    assert len(set(found["context_history"])) == 1
    assert len(await opened.reports.context_runs(key)) == 2
    await other.close()


async def test_an_engine_that_lost_its_cache_gets_a_session_back(
    opened: Store, backend: PermanentBackend, key: ContextKey, user: str
) -> None:
    install(store=opened)
    engine = await worked_on(backend, user, user)
    revision = (await opened.load(key)).revision
    fresh = ContextEngine(permanent_backend=backend)
    assert not await backend.restore(fresh, "another")
    assert await backend.restore(fresh, user)
    assert await fresh.get_session(user) == await engine.get_session(user)
    expected = [asdict(message) | {"metadata": message.metadata or {}} for message in await all_of(engine, user)]
    assert [asdict(message) for message in await all_of(fresh, user)] == expected
    assert (await fresh.get_task_context(user)).metadata == {"prompt": "x"}
    assert (await opened.load(key)).revision == revision


async def all_of(engine: ContextEngine, session: str) -> list[Any]:
    return list(await engine.get_conversation_history(session))


async def test_an_engine_with_redis_opens_it_and_writes_to_both(
    database_url: str, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = fakeredis.FakeServer()
    made = lambda **options: fakeredis.FakeAsyncRedis(server=server, decode_responses=True)  # noqa: E731
    monkeypatch.setattr(redis_client.redis, "Redis", made)
    backend = PermanentBackend(database_url)
    engine = ContextEngine(permanent_backend=backend)
    assert await engine.initialize()
    assert engine.redis_client is not None
    await engine.create_session(user, user)
    await engine.add_conversation_message(user, "user", "one")
    assert [one["content"] for one in await backend.get_conversation_history(user)] == ["one"]
    assert await backend.get_session(user) == await engine.get_session(user)
    assert (await backend.get_task_context(user) or {})["chat_id"] == user
    await engine.close()


async def test_a_failure_is_logged_and_raised_and_the_engine_goes_on(
    opened: Store, backend: PermanentBackend, user: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = await worked_on(backend, user, user)
    await opened.close()
    with caplog.at_level(logging.ERROR), pytest.raises(StoreError):
        await backend.append_conversation_message(user, "user", "three")
    assert "what aiecs wrote to" in caplog.text
    assert await engine.add_conversation_message(user, "user", "four")
    assert [one.content for one in await all_of(engine, user)] == ["one", "two", "four"]
    backend._sessions.clear()
