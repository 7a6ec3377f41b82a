"""The reports: filters, order and pages, the same on both engines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from taskctx_sql import ContextKey, SqlStore, TaskContext, blocking, open_store, task_context
from taskctx_sql.errors import InvalidArgumentError, UnsupportedByStoreError
from taskctx_sql.reports import Outcome
from taskctx_sql.sql import incomplete, row_codec
from taskctx_sql.sql.reports import clauses, report
from taskctx_sql.sql.schema import views
from tests.conftest import Clock

DAY = 86_400.0
FIRST = 1_767_225_600.0  # 2026-01-01
REPORTS = ("contexts", "tasks", "runs", "models", "files", "activity", "errors", "largest", "busiest", "users")


async def work(store: SqlStore, user: str, chat: str, at: float, *, steps: int = 1, model: str = "gpt-4") -> None:
    context = TaskContext({"user_id": user, "chat_id": chat}, store=store, clock=Clock(at))
    with pytest.raises(KeyError):
        async with context:
            for step in range(steps):
                context.add_context_update("message", {"step": step, "text": f'Say "{chat}" to Ärger'})
            context.track_file_operation(f"{chat}.txt", "write", "agent")
            context.track_model_usage(model, "openai", "chat", input_tokens=10, cost=0.1)
            context.add_context_update("error", f"broke in {chat}")
            raise KeyError(chat)


@pytest.fixture
async def recorded(sql_store: SqlStore, user: str) -> SqlStore:
    """Three chats on three days, the later ones with more in them."""
    for number in range(3):
        await work(sql_store, user, f"c{number}", FIRST + number * DAY + 10, steps=number * 3 + 1)
    return sql_store


@pytest.mark.parametrize("name", REPORTS)
async def test_pages_of_one_row_are_all_rows_in_order(recorded: SqlStore, user: str, name: str) -> None:
    of_name = getattr(recorded.reports, name)
    everything = await of_name(user_id=user)
    assert len(everything) == {"users": 1, "activity": 12, "errors": 6}.get(name, 3)
    paged: list[Any] = []
    while found := await of_name(user_id=user, limit=1, after=paged[-1] if paged else None):
        paged += found
    assert paged == everything


async def test_no_row_is_another_users(recorded: SqlStore, user: str) -> None:
    for name in REPORTS:
        assert await getattr(recorded.reports, name)(user_id=f"not {user}") == [], name


async def test_a_chat_can_be_selected(recorded: SqlStore, user: str) -> None:
    for name in REPORTS:
        if name != "users":
            found = await getattr(recorded.reports, name)(user_id=user, chat_id="c1")
            assert len(found) == {"activity": 4, "errors": 2}.get(name, 1), name


@pytest.mark.parametrize(
    ("since", "until", "days"),
    [
        (date(2026, 1, 2), None, 2),
        (None, date(2026, 1, 2), 2),
        (date(2026, 1, 2), date(2026, 1, 2), 1),
        (datetime(2026, 1, 2), datetime(2026, 1, 3), 1),
        (datetime(2026, 1, 2, 1, tzinfo=timezone(timedelta(hours=1))), FIRST + 2 * DAY, 1),
        (FIRST + 3 * DAY, None, 0),
        (-1e300, 1e300, 3),
    ],
)
async def test_a_period_can_be_selected(recorded: SqlStore, user: str, since: Any, until: Any, days: int) -> None:
    for name in ("runs", "models", "files", "activity", "errors"):
        found = await getattr(recorded.reports, name)(user_id=user, since=since, until=until)
        assert len(found) == days * {"activity": 4, "errors": 2}.get(name, 1), name


async def test_contexts_and_users_are_selected_by_when_they_were_worked_on(recorded: SqlStore, user: str) -> None:
    now = datetime.now(UTC)
    for name in ("contexts", "tasks", "largest", "busiest", "users"):
        report = getattr(recorded.reports, name)
        everything = await report(user_id=user)
        assert await report(user_id=user, since=now - timedelta(hours=1)) == everything, name
        assert await report(user_id=user, since=now + timedelta(hours=1)) == [], name
        assert await report(user_id=user, until=now - timedelta(hours=1)) == [], name


async def test_the_order_is_the_one_that_is_documented(recorded: SqlStore, user: str) -> None:
    assert [task.chat_id for task in await recorded.reports.tasks(user_id=user)] == ["c2", "c1", "c0"]
    assert [size.chat_id for size in await recorded.reports.largest(user_id=user)] == ["c2", "c1", "c0"]
    assert [size.updates for size in await recorded.reports.busiest(user_id=user)] == [10, 7, 4]
    assert [use.day for use in await recorded.reports.models(user_id=user)] == [date(2026, 1, day) for day in (3, 2, 1)]
    assert [file.path for file in await recorded.reports.files(user_id=user)] == ["c2.txt", "c1.txt", "c0.txt"]


async def test_model_uses_of_several_contexts_are_added(recorded: SqlStore, user: str) -> None:
    for number in range(2):
        await work(recorded, user, f"more {number}", FIRST + 20)
    await work(recorded, user, "other model", FIRST + 30, model="local")
    found = await recorded.reports.models(user_id=user, until=date(2026, 1, 1))
    assert [(use.model_id, use.calls, use.input_tokens, use.cost) for use in found] == [
        ("gpt-4", 3, 30, 0.3),
        ("local", 1, 10, 0.1),
    ]


async def test_rows_without_a_time_come_last_and_on_a_page_of_their_own(recorded: SqlStore, user: str) -> None:
    context = TaskContext({"user_id": user, "chat_id": "timeless"}, store=recorded)
    for path in ("x", "y"):
        context.file_tracker[path] = {"operation": "read", "source": "me", "timestamp": None, "state": "active"}
    await context.save()
    found = await recorded.reports.files(user_id=user)
    assert [file.timestamp is None for file in found] == [False, False, False, True, True]
    assert await recorded.reports.files(user_id=user, after=found[2]) == found[3:]
    assert await recorded.reports.files(user_id=user, after=found[3]) == found[4:]


async def test_a_text_is_found_as_people_write_it(recorded: SqlStore, user: str) -> None:
    async def chats(text: str, **more: Any) -> list[str]:
        return sorted({found.chat_id for found in await recorded.search(text, user_id=user, **more)})

    assert await chats('say "C1"') == ["c1"]
    assert await chats('say "C1"', case_sensitive=True) == []
    assert await chats('Say "c1"', case_sensitive=True) == ["c1"]
    assert await chats('"say "C1"') == ["c1"]
    assert await chats("c1 Say") == ["c1"]
    assert await chats("c1 Say", case_sensitive=True) == ["c1"]
    assert await chats("Ärger", limit=1000) == ["c0", "c1", "c2"]
    # A word with other letters is looked for in lower case, in upper case, and capitalized.
    assert await chats("ärger") == ["c0", "c1", "c2"]
    assert await chats("ärger", case_sensitive=True) == []
    assert await chats("Ärger", chat_id="c2", since=date(2026, 1, 3)) == ["c2"]
    assert await chats("Ärger", chat_id="c2", until=date(2026, 1, 2)) == []
    assert await chats("broke", update_type="message") == []
    assert await chats("broke", update_type="error") == ["c0", "c1", "c2"]
    for wild in ("%", "_", "\\", "\x00", "\ud800", "'; --"):
        assert await chats(f"no such {wild}") == []


async def test_a_search_goes_on_where_it_ended(recorded: SqlStore, user: str) -> None:
    everything = await recorded.search("say", user_id=user)
    assert len(everything) == 1 + 4 + 7
    paged: list[Any] = []
    while found := await recorded.search("say", user_id=user, limit=5, after=paged[-1] if paged else None):
        paged += found
    assert paged == everything


async def test_a_context_that_is_half_removed_is_in_no_report(recorded: SqlStore, user: str) -> None:
    key = ContextKey(user, "c1")
    await recorded.write_plan("hide", partial(incomplete.hide, row_codec.context_id(key)))
    for name in REPORTS:
        if name != "users":
            assert await getattr(recorded.reports, name)(user_id=user, chat_id="c1") == [], name
    (all_of_the_user,) = await recorded.reports.users(user_id=user)
    largest = await recorded.reports.largest(user_id=user)
    assert all_of_the_user.contexts == len(largest) == await recorded.reports.contexts(user_id=user).count() == 2
    assert all_of_the_user.updates == sum(size.updates for size in largest)
    assert all_of_the_user.bytes == sum(size.bytes for size in largest)
    assert await recorded.search("c1", user_id=user) == []
    reports = recorded.reports
    for report_of_one in (reports.timeline, reports.updates_by_type, reports.files_by_operation, reports.context_runs):
        assert list(await report_of_one(key)) == []
        assert len(await report_of_one(ContextKey(user, "c0"))) > 0


async def test_what_is_stored_is_what_the_views_say(recorded: SqlStore, user: str) -> None:
    await recorded.write(ContextKey(user, "c1"), state={"plan": "é" * 10})
    (users,), activity = await recorded.reports.users(user_id=user), await recorded.reports.activity(user_id=user)
    view = views.users
    (expected,) = await recorded.query(sa.select(view).where(view.c.user_id == user))
    assert asdict(users) == dict(zip(view.c.keys(), expected, strict=True))
    view = views.activity
    sums = [sa.cast(sa.func.sum(view.c[name]), sa.BigInteger) for name in ("updates", "removed", "bytes")]
    by_day = sa.select(view.c.day, view.c.update_type, *sums).where(view.c.user_id == user)
    rows = await recorded.query(by_day.group_by(view.c.day, view.c.update_type))
    assert {tuple(asdict(row).values()) for row in activity} == {tuple(row) for row in rows}
    largest, mine = await recorded.reports.largest(limit=1_000), await recorded.reports.largest(user_id=user)
    assert [size for size in largest if size.user_id == user] == mine
    assert len(await recorded.reports.busiest(limit=2)) == 2
    everybody = await recorded.reports.activity(since=FIRST, until=FIRST + 3 * DAY)
    assert sum(row.updates for row in everybody) >= sum(row.updates for row in activity) > 0


async def test_a_long_page_is_not_looked_up_by_keys(
    recorded: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = await recorded.reports.tasks(user_id=user, limit=3)
    monkeypatch.setattr(report, "_MOST_KEYS", 2)
    # There would be more parameters than a statement takes.
    monkeypatch.setattr(report, "page", partial(_without_keys, clauses.page))
    assert await recorded.reports.tasks(user_id=user, limit=3) == expected
    with pytest.raises(AssertionError):
        await recorded.reports.tasks(user_id=user, limit=2)


def _without_keys(page: Callable[..., Any], rows: Any, names: Sequence[str], *arguments: Any) -> Any:
    assert list(names) != ["context_id"]
    return page(rows, names, *arguments)


async def test_a_page_of_no_size_is_refused(recorded: SqlStore, user: str) -> None:
    key = ContextKey(user, "c0")
    wrongs: list[Any] = [-1, "3", 2**63]
    for wrong in wrongs:
        pages = [getattr(recorded.reports, name)(limit=wrong) for name in REPORTS]
        pages += [recorded.search("Say", limit=wrong)]
        pages += [recorded.reports.timeline(key, limit=wrong), recorded.reports.context_runs(key, limit=wrong)]
        for refused in pages:
            with pytest.raises(InvalidArgumentError, match="limit"):
                await refused


async def test_an_unknown_filter_is_refused_and_selects_nothing(recorded: SqlStore) -> None:
    for name in REPORTS:
        with pytest.raises(TypeError, match="no filter 'user': use user_id, chat_id, since, until, limit, sort"):
            await getattr(recorded.reports, name)(user="u1")


async def test_an_opened_store_reports_or_names_the_remedy(database_url: str, user: str) -> None:
    async with open_store(database_url) as store:
        assert await store.reports.models(user_id=user) == []
    async with open_store("json:///tasks") as store:
        with pytest.raises(UnsupportedByStoreError, match=r"cannot report.*use a database"):
            await store.reports.models(user_id=user)


# All rows, their number, and their totals.


@pytest.mark.parametrize("name", REPORTS)
async def test_without_a_limit_a_report_has_every_row(
    recorded: SqlStore, user: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = await getattr(recorded.reports, name)(user_id=user)
    # Smaller pages, instead of more rows.
    monkeypatch.setattr(report, "_PAGE_SIZE", 2)
    assert [row async for row in getattr(recorded.reports, name)(user_id=user)] == everything
    for limit in (0, 1, 2, 3):
        assert [row async for row in getattr(recorded.reports, name)(user_id=user, limit=limit)] == everything[:limit]
        assert await getattr(recorded.reports, name)(user_id=user, limit=limit) == everything[:limit]
    assert await getattr(recorded.reports, name)(user_id=user, limit=1).count() == len(everything)


@pytest.mark.parametrize("name", REPORTS)
async def test_totals_are_over_every_row(recorded: SqlStore, user: str, name: str) -> None:
    everything = await getattr(recorded.reports, name)(user_id=user)
    totals = await getattr(recorded.reports, name)(user_id=user, limit=1).totals()
    assert totals.pop("rows") == len(everything)
    assert totals == {column: pytest.approx(sum(getattr(row, column) for row in everything)) for column in totals}
    numbers = {column for column, value in asdict(everything[0]).items() if isinstance(value, int)}
    assert {"cost", "calls", "bytes", "contexts", "failed_runs"} & numbers <= totals.keys()
    nothing = await getattr(recorded.reports, name)(user_id=f"not {user}").totals()
    assert set(nothing.values()) == {0}


@pytest.mark.parametrize("name", REPORTS)
async def test_a_report_is_sorted_by_any_of_its_columns(recorded: SqlStore, user: str, name: str) -> None:
    everything = await getattr(recorded.reports, name)(user_id=user)
    for column in asdict(everything[0]).keys() - {"labels", "state"}:
        found = await getattr(recorded.reports, name)(user_id=user, sort=column)
        assert set(found) == set(everything)
        values = [getattr(row, column) for row in found]
        known = [value for value in values if value is not None]
        if isinstance(values[0], str) and column != "update_type":
            # The case of letters and punctuation have different orders on the engines.
            known = [value for value in known if value.isalnum()]
        assert known == sorted(known, reverse=not isinstance(values[0], str))
        assert values[len(known) :] == [None] * (len(values) - len(known)) or isinstance(values[0], str)
        paged: list[Any] = []
        while page := await getattr(recorded.reports, name)(
            user_id=user, sort=column, limit=2, after=paged[-1] if paged else None
        ):
            paged += page
        assert paged == found


async def test_runs_and_tasks_are_selected_by_their_outcome(recorded: SqlStore, user: str) -> None:
    async with TaskContext({"user_id": user, "chat_id": "fine"}, store=recorded) as context:
        context.add_context_update("message", 1)
    started = TaskContext({"user_id": user, "chat_id": "started"}, store=recorded)
    await started.load()
    async with started:
        await started.save()

        async def chats(outcome: Outcome) -> list[str]:
            runs = await recorded.reports.runs(user_id=user, outcome=outcome)
            assert {run.outcome for run in runs} <= {outcome}
            return sorted(run.chat_id for run in runs)

        assert await chats("failed") == ["c0", "c1", "c2"]
        assert await chats("unfinished") == ["started"]
        assert await chats("completed") == ["fine"]
        assert await chats("cancelled") == []


async def test_sync_code_waits_for_a_report(database_url: str, user: str) -> None:
    def work() -> tuple[int, int]:
        with task_context({"user_id": user, "chat_id": "c"}, database_url=database_url) as context:
            context.add_context_update("message", 1)
        with open_store(database_url) as store:
            return len(blocking(store.reports.tasks(user_id=user))), len(
                list(blocking(aiter(store.reports.tasks(user_id=user))))
            )

    assert await asyncio.to_thread(work) == (1, 1)
