"""The made-up tasks of ``taskctx demo --many``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from taskctx_sql import open_store, schema
from taskctx_sql.cli.demo_many import MARK, write_many
from tests.support.command import parsed, taskctx

NOW = 1_780_000_000.0


async def contents(url: str) -> dict[str, Any]:
    """Write a hundred tasks, and return what is reported about them."""
    await schema.upgrade(url)
    async with open_store(url) as store:
        written = await write_many(store, 100, NOW)
        assert (written.tasks, written.days) == (100, 60)
        reports = store.reports
        tasks = await reports.tasks()
        return {
            "tasks": tasks,
            "runs": await reports.runs(),
            "tools": [(tool.name, tool.calls, tool.failures, tool.open) for tool in await reports.tools()],
            "marked": len(await store.contexts(None, labels=MARK, limit=1_000)),
            "children": len([task for task in tasks if "." in task.chat_id]),
        }


async def test_the_same_tasks_are_made_up_on_every_engine(tmp_path: Path, empty_postgres_url: str) -> None:
    found = await contents(f"sqlite:///{tmp_path / 'many.db'}")
    assert found == await contents(empty_postgres_url)
    assert found["marked"] == len(found["tasks"]) == 100
    assert {run.outcome for run in found["runs"]} == {"completed", "failed", "cancelled", "unfinished"}
    assert all(run.started_at <= (run.ended_at or NOW) <= NOW for run in found["runs"])
    assert sum(calls - failures - is_open for _, calls, failures, is_open in found["tools"]) > 100
    assert found["children"]
    assert any(is_open for *_, is_open in found["tools"])


def test_the_command_fills_a_database_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'many.db'}"
    written = parsed("demo", "--many", "20", "-d", url)
    assert (written["tasks"], written["address"]) == (20, url)
    assert len(parsed("list", "-d", url)) == 20
    again = taskctx("demo", "--many", "20", "-d", url)
    assert (again.returncode, "another database" in again.stderr) == (1, True)
    assert len(parsed("list", "-d", url)) == 20


def test_made_up_tasks_need_a_database_and_no_folder(tmp_path: Path) -> None:
    refused = taskctx("demo", "--many", "-d", f"json:///{tmp_path / 'json'}")
    assert (refused.returncode, "database" in refused.stderr) == (1, True)
    assert taskctx("demo", tmp_path, "--many").returncode == 2
