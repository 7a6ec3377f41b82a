"""Importing files: every whole entry is added once, and the rest is reported."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from taskctx_sql import ContextKey, JsonStore, SqlStore, TaskContext, open_store
from taskctx_sql.errors import InvalidIdError, MissingHistoriesError, StaleContextError
from taskctx_sql.json_files import chat_id
from taskctx_sql.model import Imported
from taskctx_sql.sql.schema import tables
from taskctx_sql.sql.transfer import import_files
from taskctx_sql.transfer import import_folder
from tests.json_files.test_fixtures import EXPECTED, FOLDER, READABLE
from tests.support.contract import loaded, stored
from tests.support.rows import everything, rows_of
from tests.transfer.stores import chat_of, file_of


@pytest.mark.parametrize("was", ["shorter", "half written"])
async def test_an_import_of_a_file_that_is_written_to_meanwhile_brings_what_is_new(
    database: SqlStore, tmp_path: Path, user: str, monkeypatch: pytest.MonkeyPatch, was: str
) -> None:
    path = file_of(tmp_path / "tasks", "a", "b")
    whole = file_of(tmp_path / "whole", "a", "b", "c").read_text()
    path.write_text(path.read_text() if was == "shorter" else whole[:-30])
    import_chat = import_files.import_chat

    async def overtaken(*arguments: Any) -> None:
        await import_chat(*arguments)
        if path.read_text() != whole:
            path.write_text(whole)

    monkeypatch.setattr(import_files, "import_chat", overtaken)
    imported = await import_folder(path.parent, database, user_id=user)
    assert (imported.ok, imported.entries, imported.added) == (True, 3, 3)
    assert await stored(database, ContextKey(user, "c")) == ["a", "b", "c"]


async def test_an_import_adds_every_whole_entry_and_reports_the_rest(
    database: SqlStore, folder: Path, user: str
) -> None:
    report = await import_folder(folder, database, user_id=user)
    assert {name: chat_of(report, name).added for name in READABLE} == {name: int(EXPECTED[name]) for name in READABLE}
    assert all(chat_of(report, name).ok for name in READABLE)
    assert report.ignored == ["EXPECTED.txt", "notes.txt"]
    assert not report.ok
    cut = chat_of(report, "context_history_cut_short.json")
    ((name, damage),) = cut.damage
    text = (FOLDER / name).read_bytes()
    assert (cut.entries, cut.added, cut.damage_count, cut.verified) == (15, 15, 1, True)
    assert damage.end == len(text)
    assert text[: damage.start].endswith(b",\n  ")
    assert report.entries == report.added == sum(int(EXPECTED[name]) for name in READABLE) + 15


@pytest.mark.parametrize("name", READABLE)
async def test_an_imported_context_is_the_same_as_in_its_file(
    database: SqlStore, folder: Path, user: str, name: str
) -> None:
    for path in folder.iterdir():
        if path.name != name:
            path.unlink()
    await import_folder(folder, database, user_id=user)
    chat = str(chat_id(name))
    here, there = await loaded(database, user, chat), await loaded(JsonStore(folder), user, chat)
    assert repr(here.to_dict()) == repr(there.to_dict())
    assert list(here.file_tracker) == list(there.file_tracker)
    (run,) = await rows_of(database, tables.runs, user)
    assert run[4] == "completed"


async def test_a_second_import_adds_nothing(database: SqlStore, folder: Path, user: str) -> None:
    await import_folder(folder, database, user_id=user)
    before = await everything(database, user)
    again = await import_folder(folder, database, user_id=user)
    assert again.added == 0
    assert again.entries == sum(int(EXPECTED[name]) for name in READABLE) + 15
    assert await everything(database, user) == before


async def test_an_import_brings_what_the_original_added_meanwhile(
    database: SqlStore, tmp_path: Path, user: str
) -> None:
    key = ContextKey(user, "c")
    path = file_of(tmp_path / "tasks", *range(20))
    await import_folder(path.parent, database, user_id=user)
    file_of(tmp_path / "tasks", *range(23))
    assert (await import_folder(path.parent, database, user_id=user)).added == 3
    assert await stored(database, key) == list(range(23))


async def test_entries_that_went_on_in_both_places_are_all_kept(database: SqlStore, tmp_path: Path, user: str) -> None:
    path = file_of(tmp_path / "tasks", *range(20))
    await import_folder(path.parent, database, user_id=user)
    context = await loaded(database, user, "c")
    context.add_context_update("message", "here")
    del context.context_history[3]
    await context.save()
    # The original took some out and added others, one of them equal to one that is there.
    file_of(tmp_path / "tasks", *range(5, 20), 5, "there")
    report = await import_folder(path.parent, database, user_id=user)
    assert (report.added, report.ok) == (2, True)
    assert await stored(database, ContextKey(user, "c")) == [0, 1, 2, *range(4, 20), "here", 5, "there"]


@pytest.mark.wide
async def test_an_import_that_broke_off_goes_on(
    database: SqlStore, folder: Path, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    saves = 0
    save = SqlStore.save

    async def failing(store: SqlStore, delta: Any) -> Any:
        nonlocal saves
        saves += 1
        if saves % 5 == 0:
            raise KeyboardInterrupt
        return await save(store, delta)

    monkeypatch.setattr(SqlStore, "save", failing)
    attempts = 0
    while True:
        attempts += 1
        try:
            await import_folder(folder, database, user_id=user)
            break
        except KeyboardInterrupt:
            continue
    assert attempts > 5
    monkeypatch.undo()
    for name in READABLE:
        here, there = await loaded(database, user, str(chat_id(name))), JsonStore(folder)
        expected = await loaded(there, user, str(chat_id(name)))
        assert repr(here.to_dict()) == repr(expected.to_dict())
        assert list(here.file_tracker) == list(expected.file_tracker)


async def test_imports_at_the_same_time_bring_each_entry_once(database_url: str, tmp_path: Path, user: str) -> None:
    path = file_of(tmp_path / "tasks", *range(200))

    async def one() -> Imported:
        async with open_store(database_url) as store:
            assert isinstance(store, SqlStore)
            return await import_folder(path.parent, store, user_id=user)

    async with open_store(database_url):
        pass
    reports = await asyncio.gather(*(one() for _ in range(3)))
    assert all(chat.ok or chat.error for report in reports for chat in report.chats)
    async with open_store(database_url) as store:
        assert await stored(store, ContextKey(user, "c")) == list(range(200))


async def test_a_context_that_others_keep_writing_to_is_reported(
    database: SqlStore, tmp_path: Path, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file_of(tmp_path / "tasks", 1)
    save = SqlStore.save

    async def overtaken(store: SqlStore, delta: Any) -> Any:
        raise StaleContextError(delta.key, 1, 2)

    monkeypatch.setattr(SqlStore, "save", overtaken)
    (chat,) = (await import_folder(path.parent, database, user_id=user)).chats
    assert chat.error is not None
    assert not chat.ok
    monkeypatch.setattr(SqlStore, "save", save)
    assert (await import_folder(path.parent, database, user_id=user)).ok


async def test_files_that_were_set_aside_come_before_the_one_after_them(
    database: SqlStore, tmp_path: Path, user: str
) -> None:
    path = file_of(tmp_path / "tasks", "a", "b", "c")
    path.write_text(path.read_text()[:-40])
    context = TaskContext({"chat_id": "c"}, path.parent)
    context.add_context_update("message", "d")
    await context.save()
    (chat,) = (await import_folder(path.parent, database, user_id=user)).chats
    assert chat.files == [f"{path.name}.unreadable-1", path.name]
    assert await stored(database, ContextKey(user, "c")) == ["a", "b", "d"]
    assert chat.damage[0][0] == f"{path.name}.unreadable-1"


async def test_a_chat_whose_file_is_nothing_but_damage_makes_no_context(
    database: SqlStore, tmp_path: Path, user: str
) -> None:
    file_of(tmp_path / "tasks", chat="empty")
    file_of(tmp_path / "tasks", chat="broken").write_text("")
    report = await import_folder(tmp_path / "tasks", database, user_id=user)
    assert [chat.ok for chat in report.chats] == [True, False]
    assert [summary.chat_id for summary in await database.contexts(user)] == ["empty"]


async def test_an_entry_that_was_changed_in_the_database_is_noticed(
    database: SqlStore, tmp_path: Path, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file_of(tmp_path / "tasks", "a", "b")
    save = SqlStore.save

    async def lossy(store: SqlStore, delta: Any) -> Any:
        saved = await save(store, delta)
        await store.write_plan("spoil", lambda: spoil(delta.key))
        return saved

    def spoil(key: ContextKey) -> Any:
        statement = sa.update(tables.updates).values(data='"x"').where(tables.updates.c.seq == sa.bindparam("which"))
        mine = tables.updates.c.context_id == sa.bindparam("whose", type_=sa.Text)
        from taskctx_sql.sql.plan import Step
        from taskctx_sql.sql.row_codec import context_id

        yield Step(statement.where(mine), {"which": 2, "whose": context_id(key)})

    monkeypatch.setattr(SqlStore, "save", lossy)
    (chat,) = (await import_folder(path.parent, database, user_id=user)).chats
    assert chat.verified is False
    assert not chat.ok


async def test_a_folder_that_has_nothing_is_an_error_that_names_it(database: SqlStore, tmp_path: Path) -> None:
    with pytest.raises(MissingHistoriesError, match="no such folder"):
        await import_folder(tmp_path / "nowhere", database, user_id="u")
    with pytest.raises(MissingHistoriesError, match="no context_history"):
        await import_folder(tmp_path, database, user_id="u")
    file_of(tmp_path / "tasks", 1)
    with pytest.raises(MissingHistoriesError, match="chat 'other'"):
        await import_folder(tmp_path / "tasks", database, user_id="u", chat_id="other")
    with pytest.raises(InvalidIdError):
        await import_folder(tmp_path / "tasks", database, user_id="u\x00")


async def test_the_progress_reaches_the_total(database: SqlStore, folder: Path, user: str) -> None:
    told: list[tuple[int, int | None]] = []
    await import_folder(folder, database, user_id=user, progress=lambda _, done, total: told.append((done, total)))
    assert len({total for _, total in told}) == 1
    done, total = told[-1]
    assert total is not None
    assert 0.9 * total < done <= total
