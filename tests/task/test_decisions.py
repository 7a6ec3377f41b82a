"""What is decided differently from the original, each with a test that fails without it."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from taskctx_sql import ContextKey, Feature, SqlStore, Store, TaskContext, blocking, open_store, task_context
from taskctx_sql.errors import StoreFailedError
from tests.support.contract import loaded, stored
from tests.support.faults import FaultyStore


class Resource:
    def __init__(self, log: list[str], name: str, error: Exception | None = None) -> None:
        self.log, self.name, self.error = log, name, error

    def close(self) -> None:
        self.log.append(self.name)
        if self.error is not None:
            raise self.error


class AsyncResource(Resource):
    async def close(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().close()


class AcloseResource(Resource):
    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.log.append(f"{self.name} by aclose")


def enter(data: dict[str, Any], face: str, body: Any, **more: Any) -> None:
    """Run a body in a context, in the sync or the async face."""
    if face == "sync":
        with task_context(data, **more) as context:
            body(context)
        return

    async def run() -> None:
        async with task_context(data, **more) as context:
            body(context)

    asyncio.run(run())


@pytest.fixture(params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# A value that is not JSON.


async def test_a_value_that_is_not_json_is_stored_and_so_is_what_follows(store: Store, user: str) -> None:
    context = await loaded(store, user)
    when = datetime(2026, 1, 2, tzinfo=UTC)
    context.add_context_update("message", when)
    context.add_context_update("message", "after")
    await context.save()
    assert await stored(store, context.key) == [when, "after"]


async def test_a_save_that_fails_on_the_way_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = TaskContext({"chat_id": "c"}, tmp_path)
    context.add_context_update("message", "old")
    await context.save()
    before = (tmp_path / "context_history_c.json").read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    context.add_context_update("message", "new")
    with pytest.raises(StoreFailedError, match="No space left"):
        await context.save()
    monkeypatch.undo()
    assert (tmp_path / "context_history_c.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["context_history_c.json"]
    await context.save()
    assert await stored(context._storage.store, context.key) == ["old", "new"]  # type: ignore[arg-type]


# The trackers, and metadata that a toggle hides.


async def test_the_trackers_are_there_after_a_reload(store: Store, user: str) -> None:
    context = await loaded(store, user)
    context.track_file_operation("a.txt", "read", "user")
    context.track_model_usage("gpt-4", "openai", "chat")
    await context.save()
    again = await loaded(store, user)
    assert again.file_tracker["a.txt"]["operation"] == "read"
    assert again.model_tracker == context.model_tracker


async def test_hidden_metadata_is_there_after_a_reload(database_url: str, user: str) -> None:
    data = {"user_id": user, "metadata": {"secret": 1}, "metadata_toggles": {"secret": False}}
    async with task_context(data, database_url=database_url):
        pass
    async with task_context({"user_id": user}, database_url=database_url) as again:
        assert again.get_active_metadata() == {}
        assert again.metadata == {"secret": 1}


# Leaving.


def test_leaving_saves(address: str, user: str, face: str) -> None:
    data = {"user_id": user, "chat_id": "c1"}
    enter(data, face, lambda context: context.add_context_update("message", "hello"), database_url=address)
    with open_store(address) as store:
        assert [row.update.data for row in blocking(store.load(ContextKey(user, "c1"))).updates] == ["hello"]


@pytest.mark.parametrize("kind", ["json"])
def test_leaving_saves_to_the_task_folder(face: str, tmp_path: Path, kind: str) -> None:
    body = lambda context: context.add_context_update("message", "hello")  # noqa: E731
    enter({"chat_id": "c"}, face, body, task_dir=tmp_path / "tasks")
    assert "hello" in (tmp_path / "tasks" / "context_history_c.json").read_text()


def test_resources_are_closed_newest_first_even_when_one_fails(face: str, tmp_path: Path) -> None:
    log: list[str] = []
    seen: list[TaskContext] = []

    def body(context: TaskContext) -> None:
        seen.append(context)
        context.add_resource("a", Resource(log, "a"))
        context.add_resource("b", AsyncResource(log, "b", RuntimeError("b fails")))
        context.add_resource("c", AcloseResource(log, "c"))
        context.add_resource("d", Resource(log, "d", ValueError("d fails")))
        context.add_resource("e", object())
        context.add_resource("b", Resource(log, "b again"))

    enter({}, face, body, task_dir=tmp_path)
    assert log == ["b again", "d", "c by aclose", "b", "a"]
    assert seen[0].resources == {}


def test_a_resource_is_closed_once_and_one_taken_out_is_left_alone(face: str, tmp_path: Path) -> None:
    log: list[str] = []

    def body(context: TaskContext) -> None:
        shared = Resource(log, "shared")
        context.add_resource("one", shared)
        context.add_resource("two", shared)
        context.add_resource("mine", Resource(log, "mine"))
        del context.resources["mine"]
        context.resources["by hand"] = Resource(log, "by hand")

    enter({}, face, body, task_dir=tmp_path)
    assert log == ["by hand", "shared"]


def test_a_sync_block_closes_on_the_thread_that_opened(tmp_path: Path) -> None:
    connection = sqlite3.connect(":memory:")
    with task_context({}, tmp_path) as context:
        context.add_resource("connection", connection)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


async def test_a_cancelled_closing_closes_the_others_and_saves(tmp_path: Path) -> None:
    log: list[str] = []
    is_closing = asyncio.Event()

    class Stuck(Resource):
        async def aclose(self) -> None:
            is_closing.set()
            await asyncio.sleep(60)

    async def work() -> None:
        async with task_context({"chat_id": "c"}, tmp_path) as context:
            context.add_resource("first", Resource(log, "first"))
            context.add_resource("stuck", Stuck(log, "stuck"))

    task = asyncio.create_task(work())
    await is_closing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["first"]
    assert (tmp_path / "context_history_c.json").exists()


# Optimizing.


def test_optimizing_tells_if_anything_was_removed(tmp_path: Path) -> None:
    context = TaskContext({}, tmp_path)
    context.add_context_update("message", "a")
    history = context.context_history
    assert context.optimize_context() is False
    assert context.context_history is history
    context.add_context_update("message", "a")
    assert context.optimize_context() is True
    assert len(context.context_history) == 1


def test_optimizing_never_raises(tmp_path: Path) -> None:
    class Mute:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    context = TaskContext({}, tmp_path)
    endless: list[Any] = []
    endless.append(endless)
    for data in (datetime(2026, 1, 1), {1, 2}, endless, Mute(), {1: 2, "a": 1}, 10**5000, datetime(2026, 1, 1)):
        context.add_context_update("message", data)
    assert context.optimize_context(max_size=10_000) is True
    assert len(context.context_history) == 6


# Failures.


async def test_a_failed_save_raises(store: Store, user: str) -> None:
    faulty = FaultyStore(store)
    context = await loaded(faulty, user)
    faulty.faults = ["before"]
    with pytest.raises(StoreFailedError):
        await context.save()


async def test_a_failed_save_on_leaving_raises(store: Store, user: str) -> None:
    faulty = FaultyStore(store)
    faulty.faults = ["before"]
    with pytest.raises(StoreFailedError):
        async with task_context({"user_id": user}, store=faulty):
            pass


async def test_the_bodys_error_wins_over_a_failed_save_and_carries_a_note(store: Store, user: str) -> None:
    faulty = FaultyStore(store)
    faulty.faults = ["before"]
    with pytest.raises(KeyError) as caught:
        async with task_context({"user_id": user}, store=faulty):
            raise KeyError("the body's own")
    assert "saving the context failed too: StoreFailedError" in caught.value.__notes__[0]


async def outcome_of(store: Store, user: str) -> tuple[str | None, str | None]:
    assert isinstance(store, SqlStore)
    (run,) = await store.reports.context_runs(ContextKey(user, "c1"))
    assert run.ended_at is not None
    assert run.ended_at >= run.started_at
    return run.outcome, run.error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, ("completed", None)),
        (ValueError("no\x00good"), ("failed", "ValueError: no\\u0000good")),
        (asyncio.CancelledError("by scope 7f648fd671a0"), ("cancelled", "CancelledError")),
        (KeyboardInterrupt(), ("cancelled", "KeyboardInterrupt")),
        (GeneratorExit(), ("cancelled", "GeneratorExit")),
    ],
    ids=["completed", "failed", "cancelled", "interrupted", "closed"],
)
async def test_the_outcome_of_a_run_is_recorded(
    database_url: str, user: str, error: BaseException | None, expected: Any
) -> None:
    async with open_store(database_url) as store:
        context = task_context({"user_id": user, "chat_id": "c1"}, store=store)
        await context.__aenter__()
        await context.__aexit__(type(error) if error else None, error, None)
        assert await outcome_of(store, user) == expected


# Identity.


async def test_two_contexts_on_one_chat_keep_both_histories(tmp_path: Path) -> None:
    one, other = TaskContext({"chat_id": "c"}, tmp_path), TaskContext({"chat_id": "c"}, tmp_path)
    one.add_context_update("message", "one")
    other.add_context_update("message", "other")
    await one.save()
    await other.save()
    again = TaskContext({"chat_id": "c"}, tmp_path)
    assert [update.data for update in again.context_history] == ["one", "other"]


async def test_two_users_with_one_chat_have_a_history_each_in_sql(database_url: str, user: str) -> None:
    for name in ("a", "b"):
        async with task_context({"user_id": user + name, "chat_id": "c"}, database_url=database_url) as context:
            context.add_context_update("message", name)
            assert len(context.context_history) == 1


async def test_no_chat_id_leaves_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "tasks"
    for chat in ("../../escape", "/absolute", "..", "a/../../b", "x\\..\\y"):
        async with task_context({"chat_id": chat}, folder) as context:
            context.add_context_update("message", chat)
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"tasks"}
    names = {path.name for path in folder.iterdir()}
    assert "context_history_..%2F..%2Fescape.json" in names
    assert len(names) == 5


@pytest.mark.parametrize("chat", ["c1", "with space & sign", "会话-42", "a.b", "100%", "session:1", "émile"])
async def test_an_ordinary_chat_id_keeps_its_file_name(tmp_path: Path, chat: str) -> None:
    async with task_context({"chat_id": chat}, tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [f"context_history_{chat}.json"]


async def test_what_a_store_cannot_keep_is_declared(store: Store, kind: str) -> None:
    assert store.features == (frozenset() if kind == "json" else frozenset(Feature))
