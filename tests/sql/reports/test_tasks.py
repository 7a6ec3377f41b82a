"""The reports about tasks: found by what they used, counted by day, a page at a time."""

from __future__ import annotations

from datetime import date
from functools import partial
from typing import Any

import pytest

from taskctx_sql import ContextKey, ContextUpdate, SqlStore, clock
from taskctx_sql.errors import InvalidArgumentError
from tests.sql.reports.test_reports import DAY, FIRST, work


@pytest.fixture
async def three(sql_store: SqlStore, user: str) -> SqlStore:
    """Three failed tasks on three days, each with another model; the second has a title, a label, and a late call."""
    for number in range(3):
        at = FIRST + number * DAY + 10
        with clock.replaced(partial(float, at)):
            await work(sql_store, user, f"c{number}", at, model=f"model-{number}")
    call = ContextUpdate(FIRST + DAY, "tool_call", {}, {"group": "1", "name": "look"})
    with clock.replaced(partial(float, FIRST + 5 * DAY)):
        await sql_store.write(ContextKey(user, "c1"), updates=[call], title="About Ärger", labels={"team": "a"})
    return sql_store


@pytest.mark.parametrize(
    ("wanted", "chats"),
    [
        ({"model": "model-2"}, ["c2"]),
        ({"model": "model"}, []),
        ({"tool": "look"}, ["c1"]),
        ({"tool": "look", "model": "model-2"}, []),
        ({"labels": {"team": "a"}}, ["c1"]),
        ({"labels": {"team": "b"}}, []),
        ({"title": "bout"}, ["c1"]),
        ({"outcome": "failed", "model": "model-0"}, ["c0"]),
        ({"outcome": "completed"}, []),
        # The second one is written to once more.
        ({"since": date(2026, 1, 3)}, ["c1", "c2"]),
        ({"since": date(2026, 1, 3), "begun": True}, ["c2"]),
        ({"until": date(2026, 1, 2), "begun": True}, ["c0", "c1"]),
        ({"sort": "-created_at"}, ["c0", "c1", "c2"]),
    ],
    ids=str,
)
async def test_tasks_are_found_by_what_they_have(
    three: SqlStore, user: str, wanted: dict[str, Any], chats: list[str]
) -> None:
    report = three.reports.tasks(user_id=user, **wanted)
    found = [task.chat_id for task in await report]
    assert (found if "sort" in wanted else sorted(found)) == chats
    assert await report.count() == (await report.totals())["rows"] == len(chats)


@pytest.mark.parametrize("wanted", [{"model": 1}, {"tool": b"x"}, {"outcome": "good"}, {"title": 1}], ids=str)
async def test_what_cannot_be_looked_for_is_refused(sql_store: SqlStore, wanted: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        await sql_store.reports.tasks(**wanted).count()


async def test_active_users_are_known_without_what_their_tasks_hold(three: SqlStore, user: str) -> None:
    (found,) = await three.reports.active_users(user_id=user, chat_id="of no effect")
    (added_up,) = await three.reports.users(user_id=user)
    names = ("user_id", "contexts", "updates", "failed_runs", "updated_at")
    assert [getattr(found, name) for name in names] == [getattr(added_up, name) for name in names]
    assert (found.failed_runs, found.created_at) == (3, FIRST + 10)
    last: dict[str, Any] = {"since": date(2026, 1, 6), "user_id": user}
    assert [await three.reports.active_users(**last, until=day).count() for day in (None, date(2026, 1, 6))] == [1, 1]
    assert await three.reports.active_users(user_id=user, since=date(2026, 1, 7)) == []


async def test_days_have_what_began_and_failed_on_them(three: SqlStore, user: str) -> None:
    days = await three.reports.days(user_id=user)
    # An update of the type "error", and the run.
    assert [(day.day, day.tasks, day.errors, day.failed_runs) for day in days] == [
        (date(2026, 1, number), 1, 2, 1) for number in (3, 2, 1)
    ]
    one = await three.reports.days(user_id=user, since=date(2026, 1, 2), until=date(2026, 1, 2))
    assert one == days[1:2]


async def test_numbered_pages_have_every_row_once(three: SqlStore, user: str) -> None:
    for name, sort in (("tasks", None), ("tasks", "cost"), ("tasks", "-updates"), ("runs", None), ("errors", "kind")):
        report = getattr(three.reports, name)(user_id=user, sort=sort)
        everything = await report
        pages = [await report.read_page(number, 2) for number in (1, 2, 3, 4)]
        assert [row for page in pages for row in page] == everything
        assert len(pages[0]) == 2
    with pytest.raises(InvalidArgumentError):
        await three.reports.tasks().read_page(0, 2)


async def test_titles_are_those_of_the_tasks_that_have_one(three: SqlStore, user: str) -> None:
    ids = {task.context_id: task.chat_id for task in await three.reports.tasks(user_id=user)}
    titles = await three.reports.titles(list(ids), user_id=user)
    assert {ids[found]: title for found, title in titles.items()} == {"c1": "About Ärger"}


async def test_files_are_found_by_a_part_of_their_path(three: SqlStore, user: str) -> None:
    assert [file.path for file in await three.reports.files(user_id=user, path="C1.")] == ["c1.txt"]
