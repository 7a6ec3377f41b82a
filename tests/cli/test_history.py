"""The commands about revisions, as a person and as a program would use them."""

from __future__ import annotations

import pytest

from taskctx_sql import TaskContext, open_store
from tests.support.command import parsed, taskctx
from tests.support.contract import loaded


@pytest.fixture
async def recorded(database_url: str, user: str) -> str:
    """The URL of a database with a context of four revisions."""
    async with open_store(database_url) as store:
        context: TaskContext = await loaded(store, user)
        for number in (1, 2, 2):
            context.add_context_update("message", f"step {number}")
            context.metadata["number"] = number
            context.track_file_operation("a.txt", f"op{number}")
            await context.save()
        context.optimize_context(10_000)
        await context.save()
    return database_url


def test_a_log_prints_what_each_save_did(recorded: str, user: str) -> None:
    found = parsed("log", user, "c1", "--database-url", recorded)
    assert [(one["revision"], one["operation"], one["added"], one["removed"]) for one in found] == [
        (4, "optimize", 0, 2),
        (3, None, 2, 0),
        (2, None, 2, 0),
        (1, None, 2, 0),
    ]
    shown = taskctx("log", user, "c1", "--database-url", recorded, "--limit", "2")
    assert shown.returncode == 0
    assert "2 revisions" in shown.stdout
    assert "optimize" in shown.stdout
    assert [one["revision"] for one in parsed("log", user, "c1", "--database-url", recorded, "--before", "3")] == [2, 1]


def test_a_diff_names_each_change(recorded: str, user: str) -> None:
    shown = taskctx("diff", user, "c1", "1", "4", "--database-url", recorded)
    assert shown.returncode == 0
    for part in ('"step 2"', "~ file a.txt: op1 -> op2", "~ metadata number: 1 -> 2"):
        assert part in shown.stdout
    found = parsed("diff", user, "c1", "4", "1", "--database-url", recorded)
    assert found["metadata"] == {"number": {"old": 2, "new": 1}}
    assert "step 2" in [row["data"] for row in found["removed"]]
    assert "are the same" in taskctx("diff", user, "c1", "3", "3", "--database-url", recorded).stdout


async def test_a_key_that_was_not_there_has_no_value(recorded: str, user: str) -> None:
    async with open_store(recorded) as store:
        context = await loaded(store, user)
        del context.metadata["number"]
        context.metadata["late"] = "MISSING"
        await context.save()
    found = parsed("diff", user, "c1", "4", "5", "--database-url", recorded)
    assert found["metadata"] == {"number": {"old": 2}, "late": {"new": "MISSING"}}
    lines = taskctx("diff", user, "c1", "4", "5", "--database-url", recorded).stdout.splitlines()
    assert sorted(lines) == ["+ metadata late: 'MISSING'", "- metadata number: 2"]


def test_a_restore_and_its_undo(recorded: str, user: str) -> None:
    assert parsed("restore", user, "c1", "2", "--database-url", recorded) == {"restored": 2, "revision": 5}
    shown = parsed("show", user, "c1", "--database-url", recorded)
    assert [row["data"] for row in shown["context_history"] if row["update_type"] == "message"] == ["step 1", "step 2"]
    assert parsed("undo", user, "c1", "--database-url", recorded) == {"undone": 5, "revision": 6}
    assert parsed("undo", user, "c1", "--database-url", recorded) == {"undone": 4, "revision": 7}
    assert parsed("restore", user, "c1", "--at", "0s", "--database-url", recorded)["restored"] == 7
    assert taskctx("restore", user, "c1", "--database-url", recorded).returncode == 2


def test_a_fork_is_a_context_of_its_own(recorded: str, user: str) -> None:
    made = parsed("fork", user, "c1", "again", "--revision", "2", "--database-url", recorded)
    assert made == {"user_id": user, "chat_id": "again", "updates": 4}
    assert parsed("log", user, "again", "--database-url", recorded)[0]["source_chat_id"] == "c1"


def test_what_is_not_there_is_one_line(recorded: str, user: str) -> None:
    for command in (
        ("log", user, "nowhere"),
        ("diff", user, "c1", "1", "99"),
        ("restore", user, "c1", "99"),
        ("restore", user, "c1", "--at", "2001-01-01"),
        ("fork", user, "c1", "c1"),
    ):
        done = taskctx(*command, "--database-url", recorded)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("Error: ")
    assert [one["revision"] for one in parsed("log", user, "c1", "--database-url", recorded)] == [4, 3, 2, 1]
