"""Exporting to files: the working history, of one state, and never over what went on elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from taskctx_sql import JsonStore, SqlStore, open_store, task_context
from taskctx_sql.maintenance import prune
from taskctx_sql.model import Retention, StateChange
from taskctx_sql.transfer import export, import_folder
from tests.json_files.test_fixtures import EXPECTED, FOLDER, READABLE
from tests.support.contract import loaded, new_delta, stored


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
