"""Entering and leaving, the two faces, and where a context is kept."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import re
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from taskctx_sql import (
    ContextKey,
    ContextUpdate,
    SqlStore,
    Store,
    TaskContext,
    blocking,
    build_context,
    open_store,
    task_context,
)
from taskctx_sql.errors import (
    InvalidArgumentError,
    InvalidContextError,
    InvalidIdError,
    InvalidSettingError,
    UnknownKeyWarning,
)
from taskctx_sql.model import Source, unread_updates
from tests.support.contract import loaded, stored

# Entering.


async def test_entering_starts_the_clock_and_yields_the_context(tmp_path: Path, clock: Any) -> None:
    context = TaskContext({}, tmp_path, clock=clock)
    async with context as entered:
        assert entered is context
        assert context.start_time == clock.now


async def test_entering_loads_and_leaving_saves(address: str, user: str) -> None:
    for number in range(3):
        async with task_context({"user_id": user, "chat_id": "c"}, database_url=address) as context:
            assert [update.data for update in context.context_history] == list(range(number))
            context.add_context_update("message", number)


def test_the_sync_face_does_all_that_the_async_one_does(address: str, user: str) -> None:
    data = {"user_id": user, "chat_id": "c"}
    with task_context(data, database_url=address, history_limit=2) as context:
        for number in range(5):
            context.add_context_update("message", number)
        assert blocking(context.save()) > 0
        blocking(context.truncate_context_history(context.context_history[3].timestamp))
        context.track_file_operation("a", "read")
    with task_context(data, database_url=address, history_limit=2) as context:
        assert len(context.context_history) == 2
        assert [update.data for update in blocking(context.earlier_updates())] == [2, 1, 0]
        context.add_context_update("message", "last")
        blocking(context.save(if_unchanged=True))
        blocking(context.load())
    with open_store(address) as store:
        assert len(list(blocking(store.updates(context.key)))) == 6
        assert [summary.chat_id for summary in blocking(store.contexts(user))] == ["c"]
        assert blocking(store.delete(context.key))


async def test_a_sync_block_works_inside_a_running_loop(address: str, user: str) -> None:
    with task_context({"user_id": user, "chat_id": "c"}, database_url=address) as context:
        context.add_context_update("message", "in a loop")
    async with open_store(address) as store:
        assert await stored(store, context.key) == ["in a loop"]


def test_sync_blocks_work_on_many_threads_at_once(address: str, user: str) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with task_context({"user_id": user, "chat_id": "c"}, database_url=address) as context:
                context.add_context_update("message", number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with open_store(address) as store:
        found = blocking(store.load(ContextKey(user, "c")))
        assert sorted(row.update.data for row in found.updates) == list(range(8))


async def test_a_context_entered_within_itself_is_one_run(database_url: str, user: str) -> None:
    async with open_store(database_url) as store:
        assert isinstance(store, SqlStore)
        async with task_context({"user_id": user, "chat_id": "c"}, store=store) as context:
            async with context:
                context.add_context_update("message", "inner")
            assert await stored(store, context.key) == ["inner"]
            context.add_context_update("message", "outer")
        assert await stored(store, context.key) == ["inner", "outer"]
        assert len(await store.reports.context_runs(context.key)) == 1


async def test_a_context_can_be_entered_again(address: str, user: str) -> None:
    context = task_context({"user_id": user, "chat_id": "c"}, database_url=address)
    for number in range(3):
        async with context:
            context.add_context_update("message", number)
    async with open_store(address) as store:
        assert await stored(store, context.key) == [0, 1, 2]


async def test_entering_again_sees_what_others_saved_to_a_file_meanwhile(tmp_path: Path) -> None:
    one, other = TaskContext({"chat_id": "c"}, tmp_path), TaskContext({"chat_id": "c"}, tmp_path)
    for number, context in enumerate((one, other, one)):
        async with context:
            assert len(context.context_history) == (0, 0, 2)[number]
            context.add_context_update("message", number)


async def test_what_was_added_before_entering_is_kept(address: str, user: str) -> None:
    data = {"user_id": user, "chat_id": "c"}
    async with task_context(data, database_url=address) as first:
        first.add_context_update("message", "first")
    context = task_context(data, database_url=address)
    context.add_context_update("message", "before entering")
    async with context:
        assert [update.data for update in context.context_history] == ["first", "before entering"]


async def test_a_context_that_was_not_entered_saves_and_loads_by_its_url(address: str, user: str) -> None:
    context = TaskContext({"user_id": user, "chat_id": "c"}, database_url=address)
    context.add_context_update("message", "a")
    await context.save()
    again = TaskContext({"user_id": user, "chat_id": "c"}, database_url=address)
    await again.load()
    assert [update.data for update in again.context_history] == ["a"]


async def test_a_store_that_was_passed_stays_open(store: Store, user: str) -> None:
    async with task_context({"user_id": user}, store=store):
        pass
    assert await store.contexts(user) is not None


@pytest.mark.parametrize("url", ["sqlite:///x.db", "json:///tasks"])
async def test_a_program_that_changes_its_folder_still_means_the_same_place(
    tmp_path: Path, user: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    async with open_store(url) as store:
        monkeypatch.chdir(tmp_path / "elsewhere")
        context = await loaded(store, user)
        context.add_context_update("message", "a")
        await context.save()
        assert await stored(store, context.key) == ["a"]
        assert await store.delete(context.key)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("url", ["sqlite:///x%20y.db", "json:///tasks"])
@pytest.mark.parametrize("by_variable", [False, True])
async def test_a_context_by_its_address_stays_where_it_was_made(
    tmp_path: Path, user: str, url: str, monkeypatch: pytest.MonkeyPatch, *, by_variable: bool
) -> None:
    # What could be an escape is a folder's own name.
    here, elsewhere = tmp_path / "50%25 ?#", tmp_path / "elsewhere"
    for folder in (here, elsewhere):
        folder.mkdir()
    monkeypatch.chdir(here)
    if by_variable:
        monkeypatch.setenv("TASKCTX_DATABASE_URL", url)
    context = TaskContext({"user_id": user}, database_url=None if by_variable else url)
    for folder in (elsewhere, tmp_path, here):
        monkeypatch.chdir(folder)
        context.add_context_update("message", folder.name)
        await context.save()
        await context.load()
    async with context:
        assert [update.data for update in context.context_history] == ["elsewhere", tmp_path.name, here.name]
    assert list(elsewhere.iterdir()) == []
    assert set(tmp_path.iterdir()) == {here, elsewhere}


async def test_a_failed_entering_leaves_nothing_open(tmp_path: Path) -> None:
    context = task_context({}, database_url=f"sqlite:///{tmp_path}/missing/x.db")
    for _ in range(2):
        with pytest.raises(Exception, match="check that the folder exists"):
            async with context:
                pass


# Where a context is kept.


def test_making_a_context_of_a_database_does_no_io(tmp_path: Path) -> None:
    TaskContext({}, database_url=f"sqlite:///{tmp_path}/x.db")
    TaskContext({}, database_url="postgresql://nobody@127.0.0.1:1/none")
    assert list(tmp_path.iterdir()) == []


async def test_the_environment_switches_a_program_to_a_database(
    database_url: str, user: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TASKCTX_DATABASE_URL", database_url)
    async with TaskContext({"user_id": user}) as context:
        context.add_context_update("message", "a")
    async with task_context({"user_id": user}) as context:
        assert len(context.context_history) == 1
    assert not (tmp_path / "tasks").exists()


async def test_an_argument_wins_over_the_environment(
    tmp_path: Path, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKCTX_DATABASE_URL", f"sqlite:///{tmp_path}/environment.db")
    async with task_context({"user_id": user}, database_url=f"sqlite:///{tmp_path}/argument.db"):
        pass
    assert not (tmp_path / "environment.db").exists()
    assert (tmp_path / "argument.db").exists()


def test_the_task_folder_comes_from_the_argument_the_environment_or_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert TaskContext({}).task_dir == Path("tasks")
    monkeypatch.setenv("AIECS_TASK_DIR", "elsewhere")
    assert TaskContext({}).task_dir == Path("elsewhere")
    assert TaskContext({}, str(tmp_path)).task_dir == tmp_path
    assert TaskContext({}, "./tasks").task_dir == Path("tasks")


async def test_without_persistence_everything_stays_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIECS_ENABLE_PERSISTENCE", "false")
    monkeypatch.setenv("TASKCTX_DATABASE_URL", f"sqlite:///{tmp_path}/x.db")
    async with task_context({}, tmp_path / "tasks") as context:
        context.add_context_update("message", "a")
        await context.save()
        await context.load()
        await context.truncate_context_history(0.0)
        assert [update async for update in context.earlier_updates()] == []
    with task_context({}, tmp_path / "tasks") as context:
        context.add_context_update("message", "a")
    assert list(tmp_path.iterdir()) == []
    assert len(context.context_history) == 1


async def test_a_store_that_was_passed_is_used_even_without_persistence(
    tmp_path: Path, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIECS_ENABLE_PERSISTENCE", "false")
    async with task_context({"user_id": user}, database_url=f"sqlite:///{tmp_path}/x.db"):
        pass
    assert (tmp_path / "x.db").exists()


def test_a_setting_that_is_not_allowed_is_told_on_making(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIECS_ENABLE_PERSISTENCE", "maybe")
    with pytest.raises(InvalidSettingError, match="AIECS_ENABLE_PERSISTENCE='maybe'"):
        TaskContext({})


def test_the_environment_limits_optimizing_and_an_argument_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIECS_MAX_CONTEXT_SIZE", "10")
    context = TaskContext({}, tmp_path)
    for number in range(10):
        context.add_context_update("message", f"m{number}")
    context.optimize_context(1000)
    assert len(context.context_history) == 10
    context.optimize_context()
    assert len(context.context_history) == 5


# Bad input.


@pytest.mark.parametrize("bad", [None, [], "x", 5])
def test_data_that_is_no_dict_is_refused(bad: Any) -> None:
    for make in (TaskContext, build_context):
        with pytest.raises(InvalidContextError, match="data must be a dict"):
            make(bad)


@pytest.mark.parametrize(
    ("key", "remedy"), [("userid", "did you mean 'user_id'?"), (7, "known keys are user_id, chat_id")]
)
def test_an_unknown_key_of_the_data_is_named_in_a_warning(key: Any, remedy: str, tmp_path: Path) -> None:
    for make in (lambda data: TaskContext(data, tmp_path), build_context):
        with pytest.warns(UnknownKeyWarning, match=re.escape(remedy)):
            make({key: "u1"})


@pytest.mark.parametrize("field", ["metadata", "metadata_toggles"])
def test_a_mapping_that_is_none_is_refused_by_name(field: str) -> None:
    with pytest.raises(InvalidContextError, match=field):
        build_context({field: [1]})
    assert build_context({field: None})["metadata"] == {}


@pytest.mark.parametrize("bad", [-1, "5", 1.5])
def test_a_history_limit_that_is_no_count_is_refused(bad: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="history_limit"):
        TaskContext({}, tmp_path, history_limit=bad)


async def test_an_invalid_id_is_reported_on_loading_and_saving(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = TaskContext({"chat_id": None}, tmp_path)
    assert "chat_id" in caplog.text
    for attempt in (context.load, context.load, context.save):
        with pytest.raises(InvalidIdError, match="chat_id"):
            await attempt()
    assert list(tmp_path.iterdir()) == []


# Copies.


def test_copies_are_plain_and_belong_to_nobody(tmp_path: Path) -> None:
    context = TaskContext({}, tmp_path)
    context.add_context_update("message", {"a": [1]})
    context.track_file_operation("a", "read")
    context.track_model_usage("m", "p", "x")
    for again in (copy.deepcopy(context.context_history), pickle.loads(pickle.dumps(context.context_history))):
        assert again == context.context_history
        assert type(again) is list
    for again in (copy.deepcopy(context.file_tracker), pickle.loads(pickle.dumps(context.model_tracker))):
        assert type(again) in (dict, list)
    found = context.to_dict()
    assert type(found["file_tracker"]["a"]) is type(found["model_tracker"][0]) is dict
    found["file_tracker"]["a"]["state"] = "changed"
    assert context.file_tracker["a"]["state"] == "active"
    json.dumps(found)


def test_updates_are_equal_by_their_four_fields() -> None:
    one, other = ContextUpdate(1.0, "a", {}, {}), ContextUpdate(1.0, "a", {}, {})
    assert one == other
    one.watch({})
    assert one == other
    other.data = 1
    assert one != other
    assert repr(one) == "ContextUpdate(timestamp=1.0, update_type='a', data={}, metadata={})"


# Updates that are read when they are asked for.


MADE = ContextUpdate(1.5, "message", {}, {})


def unread(calls: list[bytes], log: dict[int, Any] | None = None) -> ContextUpdate:
    def read(seq: int, text: bytes) -> dict[str, Any]:
        assert seq == 7
        calls.append(text)
        return {"data": {"text": text.decode()}, "metadata": {"meta": 1}}

    source = Source(read, () if log is None else (log,))
    (update,) = unread_updates([1.5], ["message"], [7], [b"the text"], source)
    return update


def test_an_update_is_read_once_and_only_if_it_is_asked_for() -> None:
    calls: list[bytes] = []
    update = unread(calls)
    assert (update.timestamp, update.update_type, calls) == (1.5, "message", [])
    assert update.data == {"text": "the text"}
    assert update.data is update.data
    assert update.metadata == {"meta": 1}
    assert calls == [b"the text"]
    assert update == ContextUpdate(1.5, "message", {"text": "the text"}, {"meta": 1})
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = getattr(update, "other")  # noqa: B009


@pytest.mark.parametrize(
    "use",
    [repr, copy.copy, copy.deepcopy, pickle.dumps, replace, asdict, orjson.dumps, lambda update: update == update],
)
def test_every_use_of_an_unread_update_reads_it(use: Any) -> None:
    calls: list[bytes] = []
    use(unread(calls))
    assert calls == [b"the text"]


def test_an_unread_update_passes_for_any_other() -> None:
    update = unread([])
    assert update.__class__ is ContextUpdate
    assert isinstance(update, ContextUpdate)
    assert [type(again) for again in (copy.copy(update), pickle.loads(pickle.dumps(unread([]))))] == [ContextUpdate] * 2
    assert unread([]) == replace(unread([])) == unread([])
    assert type(update) is ContextUpdate


def test_what_is_set_on_an_unread_update_stays() -> None:
    log: dict[int, Any] = {}
    update = unread([], log)
    update.data = "set"
    assert update.metadata == {"meta": 1}
    assert update.data == "set"
    assert log == {id(update): update}


# Cancelled blocks.


async def test_a_cancelled_block_is_saved_and_its_run_is_cancelled(database_url: str, user: str) -> None:
    async def work() -> None:
        async with task_context({"user_id": user, "chat_id": "c"}, database_url=database_url) as context:
            context.add_context_update("message", "before the cancellation")
            entered.set()
            await asyncio.sleep(60)

    entered = asyncio.Event()
    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with open_store(database_url) as store:
        assert isinstance(store, SqlStore)
        context = await loaded(store, user, "c")
        assert len(context.context_history) == 1
        (run,) = await store.reports.context_runs(context.key)
        assert run.outcome == "cancelled"
