"""Files and databases to transfer between."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taskctx_sql import SqlStore, TaskContext, open_store, task_context
from taskctx_sql.model import StateChange
from taskctx_sql.sql.transfer import import_files
from tests.conftest import connection_of
from tests.json_files.test_fixtures import FOLDER
from tests.support.contract import new_delta


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
