"""Where a context is kept: by an argument, the environment, or the default."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskctx_sql import TaskContext, open_store, task_context
from taskctx_sql.errors import InvalidSettingError
from tests.support.contract import loaded, stored


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
