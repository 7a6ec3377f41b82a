"""Importing, exporting and copying: everything is transferred once, and the rest is reported."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from taskctx_sql import ContextKey, JsonStore, SqlStore, TaskContext, open_store, task_context
from taskctx_sql.errors import (
    InvalidDatabaseUrlError,
    InvalidIdError,
    MissingHistoriesError,
    MissingUserError,
    RevisionNotFoundError,
    StaleContextError,
)
from taskctx_sql.json_files import batches, chat_id, file_name
from taskctx_sql.maintenance import prune
from taskctx_sql.model import ChatImport, Imported, Retention, StateChange, Transferred
from taskctx_sql.sql.schema import tables
from taskctx_sql.sql.transfer import import_files, read, verify, write
from taskctx_sql.transfer import copy, copy_files, export, import_folder
from tests.conftest import connection_of
from tests.json_files.test_fixtures import EXPECTED, FOLDER, READABLE
from tests.support.contract import loaded, new_delta, stored


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The original's files."""
    return Path(shutil.copytree(FOLDER, tmp_path / "original"))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[SqlStore]:
    """An open database of each kind in turn."""
    async with open_store(database_url) as store:
        assert isinstance(store, SqlStore)
        yield store


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a fixture's file takes several."""
    monkeypatch.setattr(import_files, "BATCH", 7)


async def rows_of(store: SqlStore, table: sa.Table, user: str) -> list[tuple[Any, ...]]:
    """All rows of a user in a table, in the order of its key."""
    chosen = sa.select(tables.contexts.c.context_id).where(tables.contexts.c.user_id == user)
    statement = sa.select(table).where(table.c.context_id.in_(chosen)).order_by(*table.primary_key.columns)
    return [tuple(row) for row in await store.query(statement)]


async def everything(store: SqlStore, user: str) -> dict[str, list[tuple[Any, ...]]]:
    return {table.name: await rows_of(store, table, user) for table in tables.metadata.sorted_tables}


def chat_of(report: Imported, name: str) -> ChatImport:
    (found,) = (chat for chat in report.chats if name in chat.files)
    return found


def file_of(folder: Path, *datas: Any, chat: str = "c") -> Path:
    path = folder / file_name(ContextKey("u", chat))
    path.parent.mkdir(exist_ok=True)
    entries = [{"timestamp": 1.5, "update_type": "message", "data": data, "metadata": {}} for data in datas]
    path.write_text(json.dumps(entries, indent=2))
    return path


# Importing.


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


# Exporting.


async def test_an_export_of_an_import_is_the_same_to_the_byte(database: SqlStore, folder: Path, user: str) -> None:
    await import_folder(folder, database, user_id=user)
    result = await export(database, folder.parent / "out", user_id=user)
    assert result.ok
    assert result.verified == result.updates == result.added == sum(int(EXPECTED[name]) for name in READABLE) + 15
    for name in set(READABLE) - {"context_history_missing_key.json"}:
        assert (folder.parent / "out" / name).read_bytes() == (FOLDER / name).read_bytes()


async def test_an_export_is_the_working_history_and_counts_what_it_leaves_behind(
    database: SqlStore, tmp_path: Path, user: str
) -> None:
    async with task_context({"user_id": user, "chat_id": "a/b", "metadata": {"k": 1}}, store=database) as context:
        for number in range(30):
            context.add_context_update("message", (number, {number}))
        await context.save()
        del context.context_history[3:20]
    named = [StateChange("a", 1), StateChange("b", 2), StateChange("gone", 3, expires_at=1.0)]
    await database.save(new_delta(context.key, state=[*named, StateChange("title", "t", kind="label")]))
    result = await export(database, tmp_path / "out", user_id=user)
    assert result.left_behind == {
        "contexts with metadata or toggles": 1,
        "runs": 2,
        "state entries": 2,
        "labels": 1,
        "updates that left the working history": 17,
    }
    assert result.updates == result.verified == 13
    again = await loaded(JsonStore(tmp_path / "out"), user, "a/b")
    assert again.context_history == context.context_history


async def test_an_export_replaces_a_file_only_if_it_goes_on_after_it(
    database: SqlStore, tmp_path: Path, user: str
) -> None:
    context = await loaded(database, user, "c")
    outcomes = []
    for number in range(2):
        context.add_context_update("message", number)
        await context.save()
        for _ in range(2):
            result = await export(database, tmp_path / "out", user_id=user)
            outcomes.append([name for name, count in result.outcomes.items() if count])
    assert outcomes == [["added"], ["unchanged"], ["extended"], ["unchanged"]]
    path = tmp_path / "out" / "context_history_c.json"
    path.write_text("precious")
    result = await export(database, tmp_path / "out", user_id=user)
    assert result.outcomes["refused"] == 1
    assert not result.ok
    assert path.read_text() == "precious"
    assert (await export(database, tmp_path / "out", user_id=user, replace=True)).ok
    assert await stored(JsonStore(tmp_path / "out"), context.key) == [0, 1]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["context_history_c.json"]


def after_some_reads(monkeypatch: pytest.MonkeyPatch, doing: Callable[[], Awaitable[object]], *, reads: int) -> None:
    """Do something once, after so many reads of rows."""
    read, done = SqlStore.read, 0

    async def overtaken(store: SqlStore, what: str, steps: Any, **more: Any) -> Any:
        nonlocal done
        answer = await read(store, what, steps, **more)
        if what == "read":
            done += 1
            if done == reads:
                await doing()
        return answer

    monkeypatch.setattr(SqlStore, "read", overtaken)


@pytest.mark.parametrize("verifying", [False, True])
@pytest.mark.parametrize("anew", [False, True])
async def test_an_export_of_a_context_that_is_deleted_meanwhile_writes_all_of_it_or_nothing(
    database: SqlStore, tmp_path: Path, user: str, monkeypatch: pytest.MonkeyPatch, verifying: bool, anew: bool
) -> None:
    context = await loaded(database, user, "c")
    for number in range(800):
        context.add_context_update("message", number)
    await context.save()

    async def delete() -> None:
        await database.delete(context.key)
        if anew:
            other = await loaded(database, user, "c")
            other.add_context_update("message", "another")
            await other.save()

    after_some_reads(monkeypatch, delete, reads=3 if verifying else 1)
    result = await export(database, tmp_path / "out", user_id=user)
    if verifying:
        assert result.ok
        assert await stored(JsonStore(tmp_path / "out"), context.key) == list(range(800))
    else:
        assert (result.ok, result.outcomes["refused"]) == (False, 1)
        assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("verifying", [False, True])
async def test_an_export_of_a_context_that_is_pruned_meanwhile_is_of_one_state(
    database: SqlStore, tmp_path: Path, user: str, monkeypatch: pytest.MonkeyPatch, verifying: bool
) -> None:
    context = await loaded(database, user, "c")
    for number in range(800):
        context.add_context_update("message", number)
    await context.save()

    async def prune_last() -> None:
        del context.context_history[600:]
        await context.save()
        await prune(database, Retention(removed_age=0), user_id=user, now=time.time() + 60)

    after_some_reads(monkeypatch, prune_last, reads=3 if verifying else 1)
    result = await export(database, tmp_path / "out", user_id=user)
    assert result.ok
    assert await stored(JsonStore(tmp_path / "out"), context.key) == list(range(800 if verifying else 600))


async def test_an_export_of_all_users_has_a_folder_for_each(tmp_path: Path) -> None:
    async with open_store(f"sqlite:///{tmp_path}/tasks.db") as store:
        assert isinstance(store, SqlStore)
        for user in ("u1", "u/2", ".."):
            async with task_context({"user_id": user, "chat_id": "c"}, store=store) as context:
                context.add_context_update("message", user)
        result = await export(store, tmp_path / "out")
    assert result.contexts == 3
    found = {str(path.relative_to(tmp_path / "out").parent): path for path in (tmp_path / "out").rglob("*.json")}
    assert set(found) == {"u1", "u%2F2", "%2E%2E"}
    assert json.loads(found["u%2F2"].read_text())[0]["data"] == "u/2"


# Copying.


@pytest.fixture
async def other(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> AsyncIterator[SqlStore]:
    """A second database, of the other kind."""
    kind = "postgres" if database_url.startswith("sqlite") else "sqlite"
    async with open_store(connection_of(kind, tmp_path, request).address) as store:
        assert isinstance(store, SqlStore)
        yield store


@pytest.fixture
async def busy(database: SqlStore, user: str) -> TaskContext:
    """A context with a past: removed updates, changed files, several runs, values of all kinds."""
    data = {"user_id": user, "chat_id": "c", "metadata": {"k": float("nan")}, "metadata_toggles": {"k": False}}
    for turn in range(3):
        async with task_context(data, store=database) as context:
            for number in range(40):
                context.add_context_update(f"kind {number}", {"n": number, "s": {turn}, "t": "\x00é"})
                context.track_file_operation(f"f{number % 7}", f"op {turn}")
                context.track_model_usage("m", "p", "chat", cost=number / 3)
            await context.save()
            del context.context_history[5:25]
            del context.model_tracker[0]
        names = [StateChange(f"n/{number}", {turn}) for number in range(turn, turn + 40)]
        label = StateChange("title", f"turn {turn}", kind="label")
        await database.save(new_delta(context.key, state=[*names, label, StateChange(f"n/{turn}", removed=True)]))
    return context


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


def url_of(store: SqlStore) -> str:
    return store._backend.engine.url.render_as_string(hide_password=False)


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


async def test_what_was_pruned_in_the_source_leaves_the_target_too(
    database: SqlStore, other: SqlStore, busy: TaskContext, user: str
) -> None:
    await copy(url_of(database), url_of(other), user_id=user)
    context = await loaded(database, user, "c")
    del context.context_history[2:6]
    del context.model_tracker[0]
    for path in list(context.file_tracker)[:2]:
        context.track_file_operation(path, "again")
    del context.file_tracker[next(iter(context.file_tracker))]
    await context.save()
    context.add_context_update("message", "more")
    await context.save()
    await prune(database, Retention(removed_age=0), user_id=user, now=time.time() + 60)
    for compares in (True, False, True):
        result = await copy(url_of(database), url_of(other), user_id=user, verify=compares)
        assert result.ok
    assert (await loaded(other, user, "c")).to_dict() == (await loaded(database, user, "c")).to_dict()
    # What was between is refused by name, and what was before it in the target as well: it is no longer told apart.
    with pytest.raises(RevisionNotFoundError):
        await other.load(context.key, revision=context.revision - 2)


async def test_what_was_pruned_in_the_target_is_no_difference(
    database: SqlStore, other: SqlStore, busy: TaskContext, user: str
) -> None:
    await copy(url_of(database), url_of(other), user_id=user)
    await prune(other, Retention(removed_age=0), user_id=user, now=time.time() + 60)
    context = await loaded(database, user, "c")
    for revision in (None, None, 1):
        result = await copy(url_of(database), url_of(other), user_id=user)
        assert isinstance(result, Transferred)
        assert (result.problems, result.outcomes["refused"]) == ([], 0)
        assert (await loaded(other, user, "c")).to_dict() == (await loaded(database, user, "c")).to_dict()
        if revision is None:
            context.track_file_operation("f1", "again")
            await context.save()
        else:
            await context.restore(revision)
    assert (await copy(url_of(database), url_of(other), user_id=user)).ok
    # The target went on, and pruned what the source has still.
    there = await loaded(other, user, "c")
    del there.context_history[3]
    await there.save()
    await prune(other, Retention(removed_age=0), user_id=user, now=time.time() + 60)
    assert (await copy(url_of(database), url_of(other), user_id=user)).ok


async def test_values_that_expired_and_were_pruned_on_one_side_are_no_difference(
    database: SqlStore, other: SqlStore, busy: TaskContext, user: str
) -> None:
    ended = [StateChange(name, 1, expires_at=time.time() - 1) for name in ("again", "gone")]
    await database.save(new_delta(busy.key, state=ended))
    assert (await copy(url_of(database), url_of(other), user_id=user)).ok
    await prune(database, Retention(expired=True), user_id=user)
    assert (await copy(url_of(database), url_of(other), user_id=user)).ok
    # One of the names is set anew, while the target still has the version that expired.
    await database.save(new_delta(busy.key, state=[StateChange("again", 2)]))
    result = await copy(url_of(database), url_of(other), user_id=user)
    assert isinstance(result, Transferred)
    assert (result.outcomes["extended"], result.problems) == (1, [])
    assert await other.state(busy.key) == await database.state(busy.key)
    # And the other way round.
    await database.save(new_delta(busy.key, state=ended[1:]))
    assert (await copy(url_of(database), url_of(other), user_id=user)).ok
    await prune(other, Retention(expired=True), user_id=user)
    result = await copy(url_of(database), url_of(other), user_id=user)
    assert isinstance(result, Transferred)
    assert (result.outcomes["unchanged"], result.problems) == (1, [])


@pytest.mark.parametrize("by", ["verify_together", "verify_context"])
@pytest.mark.parametrize("what", ["save", "run", "new run", "prune", "delete"])
async def test_a_source_that_goes_on_while_it_is_compared_is_no_difference(
    database: SqlStore,
    other: SqlStore,
    busy: TaskContext,
    user: str,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    by: str,
) -> None:
    from taskctx_sql.sql.transfer import copy as sql_copy

    async def run(name: str) -> None:
        context = TaskContext({"user_id": user, "chat_id": "c"}, store=database)
        async with context:
            if what != "run" or name == "first":
                context.add_context_update("message", name)

    await run("first")
    comparing = getattr(verify, by)

    async def overtaken(*arguments: Any) -> None:
        if what == "prune":
            context = await loaded(database, user, "c")
            del context.context_history[0:3]
            await context.save()
            await prune(database, Retention(removed_age=0), user_id=user, now=time.time() + 60)
        elif what == "delete":
            await database.delete(ContextKey(user, "c"))
        else:
            await run("second")
        await comparing(*arguments)

    with monkeypatch.context() as patched:
        if by == "verify_context":
            # Then it counts as large.
            patched.setattr(read, "PAGE", 50)
        patched.setattr(sql_copy, by, overtaken)
        result = await copy(url_of(database), url_of(other), user_id=user)
    assert result.ok, result
    if what != "delete":
        result = await copy(url_of(database), url_of(other), user_id=user)
        assert result.ok, result
        assert (await loaded(other, user, "c")).to_dict() == (await loaded(database, user, "c")).to_dict()


async def test_a_context_that_is_deleted_while_it_is_copied_is_refused(
    database: SqlStore, other: SqlStore, busy: TaskContext, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = SqlStore.write_plan
    calls = 0

    async def overtaken(target: SqlStore, doing: str, steps: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            monkeypatch.setattr(SqlStore, "write_plan", write)
            await database.delete(busy.key)
        return await write(target, doing, steps, **more)

    monkeypatch.setattr(SqlStore, "write_plan", overtaken)
    result = await copy(url_of(database), url_of(other), user_id=user)
    assert result.problems[0].reason.startswith("it was deleted from the source")  # type: ignore[union-attr]
    assert await other.contexts(user) == []
    assert not await rows_of(other, tables.updates, user)


async def test_a_writer_in_the_target_is_never_overwritten(
    database: SqlStore, other: SqlStore, busy: TaskContext, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await copy(url_of(database), url_of(other), user_id=user)
    context = await loaded(database, user, "c")
    context.add_context_update("message", "here")
    await context.save()
    extend = write.extend

    def overtaken(seen: Any, source: Any, changes: Any) -> Any:
        stale = seen._replace(revision=seen.revision - 1)
        return extend(stale, source, changes)

    monkeypatch.setattr(write, "extend", overtaken)
    before = await everything(other, user)
    result = await copy(url_of(database), url_of(other), user_id=user)
    assert result.problems[0].reason.startswith("it was changed in the target while")  # type: ignore[union-attr]
    assert await everything(other, user) == before


@pytest.mark.parametrize("table", ["updates", "models", "files", "state", "runs", "revisions", "contexts"])
async def test_a_difference_in_any_table_is_found(
    database: SqlStore, other: SqlStore, busy: TaskContext, user: str, table: str
) -> None:
    await copy(url_of(database), url_of(other), user_id=user)
    column = {"runs": "outcome", "revisions": "run_id", "contexts": "metadata", "files": "source"}.get(table, "run_id")
    changed = getattr(tables, table)

    def spoil() -> Any:
        from taskctx_sql.sql.plan import Step

        mine = changed.c.context_id == sa.bindparam("whose", type_=sa.Text)
        context = yield from read.context_row(busy.key)
        assert context is not None
        yield Step(sa.update(changed).values({column: "x"}).where(mine), {"whose": context.context_id})

    await other.write_plan("spoil", spoil)
    result = await copy(url_of(database), url_of(other), user_id=user)
    assert isinstance(result, Transferred)
    if table in ("revisions",):
        assert result.outcomes["refused"] == 1
    elif table == "runs":
        # They are brought up to date, as they change without a revision.
        assert result.ok
    else:
        assert not result.ok
        assert result.problem_count >= 1


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
