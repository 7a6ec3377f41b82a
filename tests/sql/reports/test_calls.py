"""Calls of tools in the reports: pairs, durations and failures, the same on both engines."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
import sqlalchemy as sa

from taskctx_sql import ContextKey, ContextUpdate, SqlStore
from taskctx_sql.errors import InvalidArgumentError
from tests.support.contract import new_delta

START = 1_767_225_600.0


def call(call_id: str, name: str, at: float) -> ContextUpdate:
    return ContextUpdate(at, "tool_call", {"name": name}, {"group": call_id, "name": name})


def result(call_id: str, at: float, **about: Any) -> ContextUpdate:
    return ContextUpdate(at, "tool_result", {"found": 1}, {"group": call_id, **about})


def discrete(percent: int, durations: list[float]) -> float:
    """The least duration that so many percent do not exceed."""
    return sorted(durations)[max(math.ceil(percent * len(durations) / 100), 1) - 1]


@pytest.fixture
async def recorded(sql_store: SqlStore, user: str) -> dict[str, list[float]]:
    """A context in which two tools were called often; their durations."""
    chance = random.Random(7)
    durations = {
        "search": [chance.randint(0, 40) / 8 for _ in range(37)],
        "write": [number / 8 for number in range(20)],
    }
    updates: list[ContextUpdate] = []
    for name, each in durations.items():
        for number, duration in enumerate(each):
            at, call_id = START + number, f"{name} {number}"
            updates += [
                call(call_id, name, at),
                result(call_id, at + duration, **({"error": "no"} if number < 3 else {})),
            ]
    updates += [call("open", "search", START), call("once", "browse", START + 90_000)]
    await sql_store.write(ContextKey(user, "c"), updates=updates)
    return durations


async def test_tools_have_exact_percentiles(sql_store: SqlStore, recorded: dict[str, list[float]], user: str) -> None:
    found = {tool.name: tool for tool in await sql_store.reports.tools(user_id=user)}
    assert list(found) == ["search", "write", "browse"]
    for name, durations in recorded.items():
        tool = found[name]
        assert (tool.p50, tool.p95) == (discrete(50, durations), discrete(95, durations))
        assert (tool.calls, tool.failures, tool.open) == (len(durations) + (name == "search"), 3, int(name == "search"))
    assert (found["browse"].calls, found["browse"].open, found["browse"].p50) == (1, 1, None)
    totals = await sql_store.reports.tools(user_id=user).totals()
    assert totals == {"rows": 3, "calls": 59, "failures": 6, "retries": 6, "open": 2}
    if sql_store.engine_name == "postgresql":
        within = "percentile_disc({}) WITHIN GROUP (ORDER BY duration)"
        own: Any = sa.select(
            sa.literal_column("name"), *(sa.literal_column(within.format(part)) for part in (0.5, 0.95))
        )
        rows = await sql_store.query(
            own.select_from(sa.table("taskctx_report_calls"))
            .where(sa.literal_column("user_id") == user)
            .group_by(sa.literal_column("name"))
        )
        assert {name: (p50, p95) for name, p50, p95 in rows} == {
            tool.name: (tool.p50, tool.p95) for tool in found.values()
        }


async def test_a_period_selects_calls_by_when_they_began(
    sql_store: SqlStore, recorded: dict[str, list[float]], user: str
) -> None:
    (tool,) = await sql_store.reports.tools(user_id=user, since=START + 86_400)
    assert (tool.name, tool.calls) == ("browse", 1)
    assert len(await sql_store.reports.tools(user_id=user, until=START + 30)) == 2
    (first,) = await sql_store.reports.tools(user_id=user, limit=1, sort="p95")
    assert first.name == "search"


async def test_each_call_is_with_its_result(sql_store: SqlStore, user: str) -> None:
    key = ContextKey(user, "c")
    error = 'disk "full" é'
    updates = [
        *(
            result("1", START - 5),
            call("1", "a", START),
            call("2", "a", START + 1),
            result("2", START + 3, error=error),
        ),
        *(result("nobody's", START + 4), ContextUpdate(START, "tool_call", {"name": "no id"}, {})),
        ContextUpdate(START + 5, "tool_call", {"name": "only in its data"}, {"group": "3"}),
        *(result("1", START + 6), result("1", START + 9)),
    ]
    await sql_store.write(key, updates=updates)
    found = await sql_store.reports.calls(user_id=user)
    assert [(one.seq, one.call_id, one.name, one.outcome, one.duration, one.error) for one in found] == [
        (7, "3", "only in its data", "open", None, None),
        (3, "2", "a", "failed", 2.0, error),
        (2, "1", "a", "completed", 6.0, None),
    ]
    assert (found[2].started_utc, found[2].ended_utc) == ("2026-01-01T00:00:00Z", "2026-01-01T00:00:06Z")
    assert [one.seq for one in await sql_store.reports.calls(user_id=user, outcome="failed")] == [3]
    assert [one.seq for one in await sql_store.reports.calls(user_id=user, tool="a", limit=1, after=found[1])] == [2]
    assert [one.seq for one in await sql_store.reports.calls(user_id=user, outcome="open")] == [7]
    with pytest.raises(InvalidArgumentError, match="outcome"):
        await sql_store.reports.calls(user_id=user, outcome="lost")  # type: ignore[arg-type]


async def test_a_call_counts_once_whatever_was_removed_restored_or_forked(sql_store: SqlStore, user: str) -> None:
    key = ContextKey(user, "c")
    await sql_store.write(key, updates=[call("1", "a", START), result("1", START + 1), call("2", "a", START + 2)])
    await sql_store.clear_updates(key)
    assert [(one.removed, one.outcome) for one in await sql_store.reports.calls(user_id=user)] == [
        *((True, "open"), (True, "completed")),
    ]
    # Nobody waits for a call that is not in the history.
    assert await sql_store.reports.calls(user_id=user, outcome="open") == []
    loaded = await sql_store.load(key)
    await sql_store.save(new_delta(key, base=loaded.base, operation="restore", source_revision=1))
    await sql_store.fork(key, "forked")
    (tool,) = await sql_store.reports.tools(user_id=user)
    assert (tool.calls, tool.open) == (2, 1)
    opened = await sql_store.reports.calls(user_id=user, outcome="open")
    assert {(one.chat_id, one.call_id) for one in opened} == {("c", "2"), ("forked", "2")}
    assert {(one.key.chat_id, one.call_id) for one in await sql_store.open_calls(user_id=user)} == {
        *(("c", "2"), ("forked", "2")),
    }
