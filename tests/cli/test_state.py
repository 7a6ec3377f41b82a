"""Named values and labels, as the commands print them."""

from __future__ import annotations

import pytest

from taskctx_sql import ContextKey, open_store
from taskctx_sql.model import StateChange
from tests.support.command import parsed, taskctx
from tests.support.contract import new_delta


@pytest.fixture
async def recorded(database_url: str, user: str) -> str:
    """The URL of a database with a context whose values and labels changed twice."""
    key = ContextKey(user, "c1")
    async with open_store(database_url) as store:
        first = [StateChange("step", 1), StateChange("plan", {"of": "x" * 500}), StateChange("gone", True)]
        await store.save(new_delta(key, "hello", state=[*first, StateChange("title", "one", kind="label")]))
        second = [StateChange("step", 2), StateChange("gone", removed=True), StateChange("\x1b[31m", "a\nb")]
        await store.save(new_delta(key, state=[*second, StateChange("title", "two", kind="label")]))
    return database_url


def test_a_context_is_shown_with_its_labels_and_the_beginning_of_its_values(recorded: str, user: str) -> None:
    shown = taskctx("show", user, "c1", "-d", recorded)
    lines = shown.stdout.splitlines()
    assert "label  title: two" in lines
    assert "state  step: 2" in lines
    assert 'state  \\x1b[31m: "a\\nb"' in lines
    (plan,) = [line for line in lines if line.startswith("state  plan")]
    assert plan.endswith("…")
    assert len(plan) < 150
    found = parsed("show", user, "c1", "-d", recorded)
    assert found["labels"] == {"title": "two"}
    assert found["state"] == {"\x1b[31m": "a\nb", "plan": {"of": "x" * 500}, "step": 2}
    assert found["state_complete"] is True


def test_of_many_values_it_says_that_there_are_more(recorded: str, user: str) -> None:
    shown = taskctx("show", user, "c1", "-d", recorded, "--limit", "2")
    assert shown.stdout.count("state  ") == 3
    assert "a higher --limit" in shown.stdout
    found = parsed("show", user, "c1", "-d", recorded, "--limit", "2")
    assert (len(found["state"]), found["state_complete"]) == (2, False)


def test_a_log_says_which_revisions_changed_values(recorded: str, user: str) -> None:
    assert [one["changed_state"] for one in parsed("log", user, "c1", "-d", recorded)] == [4, 4]
    assert taskctx("log", user, "c1", "-d", recorded).stdout.count("state") == 2


def test_a_diff_names_the_values_and_labels_that_changed(recorded: str, user: str) -> None:
    lines = taskctx("diff", user, "c1", "1", "2", "-d", recorded).stdout.splitlines()
    for line in ("~ state step: 1 -> 2", "- state gone: True", "~ label title: 'one' -> 'two'"):
        assert line in lines
    found = parsed("diff", user, "c1", "2", "1", "-d", recorded)
    assert found["state"] == {"gone": {"new": True}, "step": {"old": 2, "new": 1}, "\x1b[31m": {"old": "a\nb"}}
    assert found["labels"] == {"title": {"old": "two", "new": "one"}}
