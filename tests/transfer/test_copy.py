"""Copying to another database: the same rows in every table, all at once, or nothing."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from taskctx_sql import ContextKey, JsonStore, SqlStore, TaskContext, task_context
from taskctx_sql.errors import InvalidDatabaseUrlError, MissingHistoriesError, MissingUserError
from taskctx_sql.json_files import batches
from taskctx_sql.model import Imported, Transferred
from taskctx_sql.sql.schema import tables
from taskctx_sql.sql.transfer import read
from taskctx_sql.transfer import copy, copy_files
from tests.support.contract import loaded, stored
from tests.support.rows import everything, rows_of
from tests.transfer.stores import file_of, url_of


@pytest.mark.parametrize("was", ["shorter", "half written"])
async def test_a_copy_of_a_file_that_is_written_to_meanwhile_brings_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, was: str
) -> None:
    path = file_of(tmp_path / "tasks", "a", "b")
    whole = file_of(tmp_path / "whole", "a", "b", "c").read_text()
    path.write_text(path.read_text() if was == "shorter" else whole[:-30])
    difference = batches.first_difference

    async def overtaken(*arguments: Any) -> Any:
        if path.read_text() != whole:
            path.write_text(whole)
        return await difference(*arguments)

    monkeypatch.setattr(copy_files, "first_difference", overtaken)
    result = await copy(f"json:///{path.parent}", f"json:///{tmp_path}/out")
    assert isinstance(result, Transferred)
    assert (result.ok, result.verified, result.added, result.outcomes["added"]) == (True, 3, 3, 1)
    assert (tmp_path / "out" / path.name).read_text() == whole


async def test_a_copy_has_the_same_rows_in_every_table(
    database: SqlStore, other: SqlStore, busy: TaskContext, user: str
) -> None:
    result = await copy(url_of(database), url_of(other), user_id=user)
    assert isinstance(result, Transferred)
    assert result.ok
    assert result.outcomes == {"added": 1, "extended": 0, "unchanged": 0, "refused": 0}
    assert await everything(other, user) == await everything(database, user)
    assert result.verified == result.added == len(await rows_of(database, tables.updates, user)) > 300
    again = await copy(url_of(database), url_of(other), user_id=user)
    assert isinstance(again, Transferred)
    assert (again.added, again.outcomes["unchanged"], again.ok) == (0, 1, True)


async def test_a_copy_brings_the_target_up_to_date(
    database: SqlStore, other: SqlStore, busy: TaskContext, user: str
) -> None:
    await copy(url_of(database), url_of(other), user_id=user)
    context = await loaded(database, user, "c")
    del context.context_history[2:30]
    context.track_file_operation("f1", "again")
    context.metadata["k"] = 2
    await context.save()
    result = await copy(url_of(database), url_of(other), user_id=user)
    assert isinstance(result, Transferred)
    assert (result.outcomes["extended"], result.ok) == (1, True)
    assert await everything(other, user) == await everything(database, user)


async def test_a_target_that_went_on_is_left_alone(
    database: SqlStore, other: SqlStore, busy: TaskContext, user: str
) -> None:
    await copy(url_of(database), url_of(other), user_id=user)
    context = await loaded(other, user, "c")
    context.add_context_update("message", "there")
    del context.context_history[0]
    await context.save()
    before = await everything(other, user)
    result = await copy(url_of(database), url_of(other), user_id=user)
    assert isinstance(result, Transferred)
    assert (result.outcomes["unchanged"], result.ok) == (1, True)
    assert await everything(other, user) == before


async def test_contexts_that_changed_on_both_sides_are_refused(
    database: SqlStore, other: SqlStore, busy: TaskContext, user: str
) -> None:
    await copy(url_of(database), url_of(other), user_id=user)
    for store in (database, other):
        context = await loaded(store, user, "c")
        context.add_context_update("message", store.database_url)
        await context.save()
    before = await everything(other, user)
    result = await copy(url_of(database), url_of(other), user_id=user)
    assert isinstance(result, Transferred)
    assert result.outcomes["refused"] == 1
    assert "both sides have changed" in result.problems[0].reason
    assert await everything(other, user) == before


async def test_another_context_of_the_same_name_is_refused(
    database: SqlStore, other: SqlStore, busy: TaskContext, user: str
) -> None:
    async with task_context({"user_id": user, "chat_id": "c"}, store=other) as context:
        context.add_context_update("message", "mine")
    result = await copy(url_of(database), url_of(other), user_id=user)
    assert "created at another time" in result.problems[0].reason  # type: ignore[union-attr]
    assert await stored(other, context.key) == ["mine"]


@pytest.mark.wide
@pytest.mark.parametrize("breaks_at", range(1, 14, 2))
async def test_a_copy_that_broke_off_shows_nothing_and_goes_on(
    database: SqlStore, other: SqlStore, busy: TaskContext, user: str, monkeypatch: pytest.MonkeyPatch, breaks_at: int
) -> None:
    monkeypatch.setattr(read, "PAGE", 50)
    monkeypatch.setattr(read, "PAGE_TEXT", 3_000)
    writes = 0
    write = SqlStore.write_plan

    async def failing(store: SqlStore, doing: str, steps: Any) -> Any:
        nonlocal writes
        writes += 1
        if writes == breaks_at:
            raise KeyboardInterrupt
        return await write(store, doing, steps)

    monkeypatch.setattr(SqlStore, "write_plan", failing)
    with pytest.raises(KeyboardInterrupt):
        await copy(url_of(database), url_of(other), user_id=user)
    assert await stored(other, busy.key) == []
    # Meanwhile the source goes on, and takes out what was copied.
    context = await loaded(database, user, "c")
    del context.context_history[0:3]
    await context.save()
    result = await copy(url_of(database), url_of(other), user_id=user)
    assert result.ok
    assert await everything(other, user) == await everything(database, user)


@pytest.mark.parametrize("breaks_at", [2, 4, 8])
async def test_a_save_in_the_target_beside_a_copy_that_broke_off_is_a_new_context(
    database: SqlStore, other: SqlStore, busy: TaskContext, user: str, monkeypatch: pytest.MonkeyPatch, breaks_at: int
) -> None:
    monkeypatch.setattr(read, "PAGE", 50)
    monkeypatch.setattr(read, "PAGE_TEXT", 3_000)
    with monkeypatch.context() as patched:
        _break_write(patched, breaks_at)
        with pytest.raises(KeyboardInterrupt):
            await copy(url_of(database), url_of(other), user_id=user)
    assert await other.contexts(user) == []
    context = await loaded(other, user, "c")
    assert context.is_new
    context.add_context_update("message", "new work")
    await context.save()
    context.add_context_update("message", "more")
    await context.save()
    assert await stored(other, context.key) == ["new work", "more"]
    assert len(await rows_of(other, tables.updates, user)) == 2
    # And the source's is another one.
    result = await copy(url_of(database), url_of(other), user_id=user)
    assert "created at another time" in result.problems[0].reason  # type: ignore[union-attr]


async def test_a_copy_brings_a_context_up_to_date_all_at_once(
    database: SqlStore, other: SqlStore, busy: TaskContext, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "PAGE", 5)
    await copy(url_of(database), url_of(other), user_id=user)
    before = await stored(other, busy.key)
    context = await loaded(database, user, "c")
    for number in range(40):
        context.add_context_update("message", number)
        context.track_file_operation(f"f{number % 3}", "write")
    await context.save()
    for breaks_at in range(1, 4):
        with monkeypatch.context() as patched:
            _break_write(patched, breaks_at)
            with contextlib.suppress(KeyboardInterrupt):
                await copy(url_of(database), url_of(other), user_id=user, verify=False)
        if await stored(other, busy.key) != before:
            break
    assert await stored(other, busy.key) == await stored(database, busy.key)
    assert (await copy(url_of(database), url_of(other), user_id=user)).ok
    assert await everything(other, user) == await everything(database, user)
    # Whoever saves there after one that broke off finds nothing of it.
    context.add_context_update("message", "here")
    await context.save()
    with monkeypatch.context() as patched:
        _break_write(patched, 1)
        with pytest.raises(KeyboardInterrupt):
            await copy(url_of(database), url_of(other), user_id=user)
    there = await loaded(other, user, "c")
    there.add_context_update("message", "there")
    await there.save()
    assert (await stored(other, busy.key))[-1] == "there"


def _break_write(patched: pytest.MonkeyPatch, breaks_at: int) -> None:
    write = SqlStore.write_plan
    writes = 0

    async def failing(store: SqlStore, doing: str, steps: Any) -> Any:
        nonlocal writes
        writes += 1
        if writes == breaks_at:
            raise KeyboardInterrupt
        return await write(store, doing, steps)

    patched.setattr(SqlStore, "write_plan", failing)


@pytest.mark.wide
async def test_there_and_back_again_by_files(database: SqlStore, other: SqlStore, user: str, folder: Path) -> None:
    imported = await copy(f"json:///{folder}", url_of(database), user_id=user)
    assert isinstance(imported, Imported)
    result = await copy(url_of(database), f"json:///{folder.parent}/out", user_id=user)
    assert result.ok
    back = await copy(f"json:///{folder.parent}/out", f"json:///{folder.parent}/again")
    assert isinstance(back, Transferred)
    assert (back.ok, back.verified) == (True, result.verified)  # type: ignore[union-attr]
    for path in (folder.parent / "out").iterdir():
        assert (folder.parent / "again" / path.name).read_bytes() == path.read_bytes()


async def test_a_copy_of_files_reports_the_damage(folder: Path) -> None:
    result = await copy(f"json:///{folder}", f"json:///{folder.parent}/out")
    assert isinstance(result, Transferred)
    assert {problem.where for problem in result.problems} == {
        "context_history_cut_short.json",
        "context_history_empty_file.json",
        "context_history_not_a_list.json",
    }
    assert await stored(JsonStore(folder.parent / "out"), ContextKey("u", "cut_short"))


async def test_what_cannot_be_copied_is_a_sentence(folder: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tasks.db"
    with pytest.raises(MissingUserError, match="--user"):
        await copy(f"json:///{folder}", url)
    with pytest.raises(InvalidDatabaseUrlError, match="both ends of the copy"):
        await copy(url, url)
    with pytest.raises(MissingHistoriesError, match="no such file"):
        await copy(url, f"json:///{tmp_path}/out")
    assert not (tmp_path / "tasks.db").exists()
