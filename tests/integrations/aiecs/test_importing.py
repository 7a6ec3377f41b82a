"""The tables that aiecs itself writes in Postgres become contexts, each entry once."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa
from aiecs.domain.context.context_engine import ContextEngine
from aiecs.domain.execution.model import TaskStepResult
from aiecs.infrastructure.persistence.database_manager import DatabaseManager
from aiecs.infrastructure.persistence.postgres_permanent_backend import PostgresPermanentBackend

from taskctx_sql import ContextKey, Store
from taskctx_sql.errors import InvalidDatabaseUrlError, MissingHistoriesError
from taskctx_sql.transfer import import_aiecs


@pytest.fixture
async def engine(empty_postgres_url: str) -> AsyncIterator[ContextEngine]:
    """An engine of aiecs that writes to its own backend."""
    backend = PostgresPermanentBackend(dsn=empty_postgres_url)
    await backend.initialize()
    engine = ContextEngine(permanent_backend=backend)
    yield engine
    await engine.close()


@pytest.fixture
async def manager(empty_postgres_url: str) -> AsyncIterator[DatabaseManager]:
    """What aiecs writes the steps of tasks with."""
    manager = DatabaseManager({"dsn": empty_postgres_url})
    await manager.connect(1, 1)
    yield manager
    await manager.close()


async def updates(store: Store, key: ContextKey) -> list[tuple[str, Any]]:
    return [(one.update.update_type, one.update.data) for one in (await store.load(key)).updates]


async def test_the_snapshots_of_a_session_become_one_context(
    engine: ContextEngine, empty_postgres_url: str, opened: Store, user: str
) -> None:
    await engine.create_session("s1", user, {"prompt": "x"})
    context = await engine.get_task_context("s1")
    context.add_context_update("message", "one", {"role": "user"})
    context.add_context_update("message", "one", {"role": "user"})
    await engine.store_task_context("s1", context)
    context.track_file_operation("a.py", "edit")
    context.track_model_usage("gpt", "openai", "generate")
    del context.context_history[0]
    await engine.store_task_context("s1", context)
    imported = await import_aiecs(empty_postgres_url, opened)
    assert (imported.ok, imported.entries, imported.added) == (True, 4, 4)
    assert [chat.verified for chat in imported.chats] == [True]
    key = ContextKey(user, "s1")
    assert [kind for kind, _ in await updates(opened, key)] == ["message", "message", "file_operation", "model_usage"]
    loaded = await opened.load(key)
    assert loaded.metadata == {"prompt": "x"}
    assert [path for _, path, _ in loaded.files] == ["a.py"]
    assert [use["model_id"] for _, use in loaded.models] == ["gpt"]
    context.add_context_update("message", "two")
    await engine.store_task_context("s1", context)
    assert (await import_aiecs(empty_postgres_url, opened)).added == 1
    assert (await import_aiecs(empty_postgres_url, opened)).added == 0


async def test_the_steps_of_a_task_become_a_context_with_its_outcome(
    manager: DatabaseManager, empty_postgres_url: str, opened: Store, user: str
) -> None:
    done = TaskStepResult("search", {"found": 3}, True, status="completed")
    failed = TaskStepResult("write", None, status="failed", error_code="E003", error_message="no space")
    for task, results in (("t1", [done, failed]), ("t2", [done])):
        for step, result in enumerate(results):
            await manager.save_task_history(user, task, step, result)
    assert (await import_aiecs(empty_postgres_url, opened)).ok
    assert await updates(opened, ContextKey(user, "t1")) == [("event", done.dict()), ("error", failed.dict())]
    first, second = (one.update for one in (await opened.load(ContextKey(user, "t1"))).updates)
    assert first.metadata == {"framework": "aiecs", "step": 0, "name": "search", "status": "completed"}
    assert second.metadata["error"] == "no space"
    assert abs(second.timestamp - first.timestamp) < 60
    assert [run.outcome for run in await opened.reports.context_runs(ContextKey(user, "t1"))] == ["failed"]
    assert [run.outcome for run in await opened.reports.context_runs(ContextKey(user, "t2"))] == ["completed"]
    await manager.mark_task_as_cancelled(user, "t2")
    assert (await import_aiecs(empty_postgres_url, opened)).added == 0
    assert {chat.chat_id for chat in (await import_aiecs(empty_postgres_url, opened, chat_id="t2")).chats} == {"t2"}
    assert (await import_aiecs(empty_postgres_url, opened, user_id="nobody")).chats == []


async def test_an_entry_that_is_not_one_is_reported_and_the_others_are_imported(
    engine: ContextEngine, empty_postgres_url: str, opened: Store, user: str
) -> None:
    entry = {"timestamp": 1.5, "update_type": "message", "data": "x", "metadata": {}}
    data = {"user_id": user, "chat_id": "c1", "context_history": [{"data": "no type"}, entry]}
    await engine._permanent_backend.append_task_context_snapshot("s1", data)
    imported = await import_aiecs(empty_postgres_url, opened)
    assert not imported.ok
    assert "snapshot 1 has 1 entries" in str(imported.chats[0].error)
    assert await updates(opened, ContextKey(user, "c1")) == [("message", "x")]


async def test_a_database_without_the_tables_is_refused(empty_postgres_url: str, opened: Store) -> None:
    with pytest.raises(MissingHistoriesError, match="neither context_task_contexts nor task_history"):
        await import_aiecs(empty_postgres_url, opened)
    with pytest.raises(InvalidDatabaseUrlError, match="Postgres"):
        await import_aiecs("sqlite:///tasks.db", opened)


async def test_the_command_imports_them(
    manager: DatabaseManager, empty_postgres_url: str, database_url: str, user: str
) -> None:
    await manager.save_task_history(user, "t1", 0, TaskStepResult("search", {"found": 3}, True))
    command = [sys.executable, "-m", "taskctx_sql", "import", empty_postgres_url, "-d", database_url, "--json"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["added"] == 1
    assert sa.make_url(empty_postgres_url).password is None or "***" in json.loads(done.stdout)["source"]
