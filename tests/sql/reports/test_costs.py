"""Costs, failures, retries and durations over many tasks, against the same computed in Python."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql import ContextKey, ContextUpdate, SqlStore, TaskContext
from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.model import Run
from taskctx_sql.reports import CostBy
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.schema import contexts
from tests.conftest import Clock
from tests.sql.reports.test_calls import discrete

START = 1_767_225_600.0
MODELS = ("gpt-4o", "claude", "local")
PARENTS = {"c0": None, "c1": "c0", "c2": "c1", "c3": "gone", "c4": "c5", "c5": "c4"}


@dataclass(frozen=True)
class Use:
    """A use of a model as it was saved."""

    chat: str
    model: str
    at: float
    tokens: int
    cost: float
    is_estimated: bool
    error: str | None
    duration: float | None
    run: int

    @property
    def day(self) -> date:
        return datetime.fromtimestamp(self.at, UTC).date()


def entry(use: Use) -> dict[str, Any]:
    made = {"model_id": use.model, "provider_id": "p", "mode": "m", "timestamp": use.at, "input_tokens": use.tokens}
    made |= {"cost": use.cost, "price_list": "prices 1"} if use.is_estimated else {"cost": use.cost}
    made |= {} if use.duration is None else {"duration": use.duration}
    return made | ({} if use.error is None else {"error": use.error})


@pytest.fixture
async def uses(sql_store: SqlStore, user: str) -> list[Use]:
    """What six tasks in two trees and a circle used in three days, in runs of their own."""
    chance, made = random.Random(11), []
    for number, (chat, parent) in enumerate(PARENTS.items()):
        for run in range(2):
            some = [
                Use(
                    chat=chat,
                    model=chance.choice(MODELS),
                    at=START + chance.randrange(3 * 86_400),
                    tokens=chance.randrange(1000),
                    cost=chance.randrange(1000) / 256,
                    is_estimated=chance.random() < 0.3,
                    error="refused" if chance.random() < 0.4 else None,
                    duration=chance.randrange(100) / 8 if chance.random() < 0.9 else None,
                    run=run,
                )
                for _ in range(7)
            ]
            labels = {"team": f"team {number % 2}"} if number < 5 else None
            await sql_store.write(ContextKey(user, chat), models=map_of(some), parent=parent, labels=labels)
            made += some
    await sql_store.write(ContextKey(f"other {user}", "c0"), models=map_of(made[:1]))
    return made


def map_of(uses: Iterable[Use]) -> list[dict[str, Any]]:
    return [entry(use) for use in uses]


def root_of(chat: str) -> str:
    return {"c1": "c0", "c2": "c0"}.get(chat, chat)


KEYS: dict[CostBy, Callable[[Use], Any]] = {
    "day": lambda use: use.day,
    "model": lambda use: use.model,
    "task": lambda use: use.chat,
    "label": lambda use: "" if use.chat == "c5" else f"team {int(use.chat[1]) % 2}",
    "tree": lambda use: "circle" if use.chat in ("c4", "c5") else root_of(use.chat),
    "user": lambda use: "the user",
}


async def test_costs_are_those_of_the_uses(
    engine: AsyncEngine, sql_store: SqlStore, user: str, uses: list[Use]
) -> None:
    for by, key_of in KEYS.items():
        for since in (None, START + 130_000):
            await compare(sql_store, user, [use for use in uses if since is None or use.at >= since], by, key_of, since)
    # A task that is only partly copied is not there: what is below it is a tree of its own.
    copied = contexts.c.context_id == row_codec.context_id(ContextKey(user, "c0"))
    async with engine.begin() as connection:
        await connection.execute(sa.update(contexts).where(copied).values(revision=0))
    roots = {row.name: row.tasks for row in await sql_store.reports.costs("tree", user_id=user)}
    assert roots.pop("c4", 0) + roots.pop("c5", 0) == 2
    assert roots == {"c1": 2, "c3": 1}
    for wrong, label in (("week", None), ("label", None), ("day", "team")):
        with pytest.raises(InvalidArgumentError):
            await sql_store.reports.costs(wrong, label=label)  # type: ignore[arg-type]


async def compare(
    store: SqlStore, user: str, counted: list[Use], by: CostBy, key_of: Callable[[Use], Any], since: float | None
) -> None:
    """Compare the costs with those of the uses that are counted."""
    report = store.reports.costs(by, label="team" if by == "label" else None, user_id=user, since=since)
    groups: dict[Any, list[Use]] = defaultdict(list)
    for use in counted:
        groups[key_of(use)].append(use)
    rows = await report
    assert len(rows) == len(groups)
    for row in rows:
        name: Any = row.day if by == "day" else "the user" if by == "user" else row.name
        some = groups["circle" if by == "tree" and name in ("c4", "c5") else name]
        assert (row.calls, row.tasks) == (len(some), len({use.chat for use in some}))
        assert (row.cost, row.input_tokens) == (sum(use.cost for use in some), sum(use.tokens for use in some))
        assert row.estimated_cost == sum(use.cost for use in some if use.is_estimated)
        assert row.failures == sum(use.error is not None for use in some)
        whose = {"task": (user, row.name), "tree": (user, row.name), "user": (user, None)}
        assert (row.user_id, row.chat_id) == whose.get(by, (None, None))
    order = [row.day for row in rows] if by == "day" else [row.cost for row in rows]
    assert order == sorted(order, reverse=True)  # type: ignore[type-var]
    assert (await report.totals())["cost"] == sum(use.cost for use in counted)
    assert [row.calls for row in await report] == [row.calls for row in rows]


async def test_the_speed_of_models_is_that_of_their_uses(sql_store: SqlStore, user: str, uses: list[Use]) -> None:
    rows = {row.model_id: row for row in await sql_store.reports.speed(user_id=user)}
    assert rows.keys() == set(MODELS)
    for model, row in rows.items():
        some = [use for use in uses if use.model == model]
        durations = [use.duration for use in some if use.duration is not None]
        assert (row.calls, row.failures) == (len(some), sum(use.error is not None for use in some))
        assert (row.p50, row.p95) == (discrete(50, durations), discrete(95, durations))
        retries = 0
        last: dict[tuple[str, int], str | None] = {}
        for use in some:
            retries += last.get((use.chat, use.run)) is not None
            last[use.chat, use.run] = use.error
        assert row.retries == retries > 0
    assert sum(row.failures for row in await sql_store.reports.models(user_id=user)) == sum(
        use.error is not None for use in uses
    )


async def test_a_failed_use_is_tracked_and_loaded(sql_store: SqlStore, user: str) -> None:
    async with TaskContext({"user_id": user, "chat_id": "c"}, store=sql_store) as context:
        context.track_model_usage("gpt-4o", "openai", "chat", error="it is overloaded")
    (row,) = await sql_store.reports.speed(user_id=user)
    assert (row.calls, row.failures, row.p50) == (1, 1, None)
    loaded = TaskContext({"user_id": user, "chat_id": "c"}, store=sql_store)
    await loaded.load()
    assert loaded.model_tracker[0]["error"] == "it is overloaded"


async def test_a_retry_has_the_arguments_of_a_failed_call_before_it(sql_store: SqlStore, user: str) -> None:
    def called(number: int, arguments: Any, *, fails: bool, name: str = "search") -> list[ContextUpdate]:
        group, at = f"call {number}", START + number
        data = {"name": name, "arguments": arguments, "id": group}
        failure = {"error": "no"} if fails else {}
        return [
            ContextUpdate(at, "tool_call", data, {"group": group, "name": name}),
            ContextUpdate(at + 0.5, "tool_result", {}, {"group": group, **failure}),
        ]

    first = [*called(0, {"a": 1}, fails=True), *called(1, {"a": 2}, fails=True), *called(2, {"a": 1}, fails=True)]
    first += [*called(3, {"a": 1}, fails=False), *called(4, {"a": 1}, fails=True)]
    await sql_store.write(ContextKey(user, "c"), updates=first)
    # In another run, and of another tool.
    await sql_store.write(ContextKey(user, "c"), updates=called(5, {"a": 1}, fails=False))
    await sql_store.write(ContextKey(user, "c"), updates=called(6, {"a": 1}, fails=False, name="find"))
    tools = {row.name: row for row in await sql_store.reports.tools(user_id=user)}
    assert (tools["search"].calls, tools["search"].failures, tools["search"].retries) == (6, 4, 2)
    assert tools["find"].retries == 0
    # It is one whenever the failed call was.
    (later, _) = await sql_store.reports.tools(user_id=user, since=START + 2)
    assert (later.calls, later.failures, later.retries) == (4, 2, 2)


async def test_runs_that_go_on_are_told_from_those_that_broke_off(sql_store: SqlStore, user: str) -> None:
    ended = Run("ended", 1, START, START, "completed")
    for run in (Run("goes on", 1, START, None, None), Run("broke off", 1, START, None, None), ended):
        await sql_store.write(ContextKey(user, run.run_id), updates=[("m", 1)], run=run, title="t")
    context = TaskContext({"user_id": user, "chat_id": "early"}, store=sql_store, clock=Clock(START))
    context.add_context_update("m", 1)
    await context.save()
    everything = await sql_store.reports.running(user_id=user)
    assert {row.run_id for row in everything} > {"goes on", "broke off"}
    assert len(everything) == 3
    by_run = {row.run_id: row for row in everything}
    assert (by_run["goes on"].title, by_run["goes on"].started_at) == ("t", START)
    assert 0 <= by_run["goes on"].silent < 600
    assert not by_run["goes on"].broke_off
    assert all(row.broke_off for row in await sql_store.reports.running(user_id=user, silence=-1))
    assert await sql_store.reports.running(user_id=user, until=START - 1) == []
