"""Answers from daily sums and from the rows, what is saved for them, and sums that are brought up to date by hand."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from taskctx_sql import ContextKey, ContextUpdate, SqlStore
from taskctx_sql.reports import CostBy, Filters
from taskctx_sql.sql.reports.summed import DailySums
from taskctx_sql.sql.schema.folding import fold_portion

START = datetime(2026, 3, 1, tzinfo=UTC)
USERS = ("ann", "bob")
BY: tuple[CostBy, ...] = ("day", "model", "user", "task", "label", "tree")


async def fold(store: SqlStore, most: int) -> int:
    _, name = store.engine_and_schema()
    return await store.write_plan("sum", partial(fold_portion, store.engine_name, name, most))


def uses(chance: random.Random, count: int) -> list[dict[str, Any]]:
    """Uses of models in a few days, some of them without a time, whose costs add up exactly in every order."""
    found = []
    for _ in range(count):
        at = (START + timedelta(seconds=chance.randrange(-3600, 5 * 86_400))).timestamp()
        made = {"model_id": chance.choice("abc"), "provider_id": chance.choice("pq"), "mode": "m", "timestamp": at}
        made |= {"cost": chance.randrange(1000) / 256, "input_tokens": chance.choice([5, 7, -1, 10**13, None])}
        made |= {"duration": chance.choice([0.5, None])}
        made |= chance.choice([{}, {"error": "refused"}, {"price_list": "prices 1"}, {"timestamp": None}])
        found.append({name: value for name, value in made.items() if value is not None or name == "timestamp"})
    return found


def some_updates(chance: random.Random) -> list[ContextUpdate]:
    """Calls of tools, most of them with a result, and messages, some of them without a time."""
    found = []
    for _ in range(chance.randrange(3)):
        at, group = START.timestamp() + chance.randrange(-3600, 5 * 86_400), f"call {chance.randrange(10**9)}"
        data = {"name": chance.choice("xy"), "arguments": chance.choice([{}, {"a": 1}])}
        found.append(ContextUpdate(at, "tool_call", data, {"group": group}))
        ended = ContextUpdate(at + chance.randrange(9) / 8, "tool_result", {}, {"group": group})
        failed = ContextUpdate(ended.timestamp, "tool_result", {}, {"group": group, "error": "no"})
        found += chance.choice([[ended], [failed], [failed], []])
    times: list[Any] = [START.timestamp(), None]
    return [*found, ContextUpdate(chance.choice(times), chance.choice(["message", "error"]), "é", {})]


def some_filters(chance: random.Random) -> Filters:
    """Some of the filters: users, days, and times within a day, which the sums do not have."""
    first, last = (START.date() + timedelta(days=chance.randrange(-1, 6)) for _ in range(2))
    moment = START + timedelta(seconds=chance.randrange(4 * 86_400))
    periods: list[Filters] = [{}, {"since": first}, {"until": last}, {"since": first, "until": last}, {"since": moment}]
    return {**chance.choice(periods), "user_id": chance.choice([None, *USERS])}


async def answers(store: SqlStore, filters: Filters, some: Sequence[CostBy]) -> dict[str, Any]:
    reports = store.reports
    found: dict[str, Any] = {
        by: await reports.costs(by, label="team" if by == "label" else None, **filters) for by in BY
    }
    top: Filters = {**filters, "limit": 3}
    tops: tuple[CostBy, ...] = ("task", "tree")
    for by in tops:
        found[f"dearest {by}"] = await reports.costs(by, **top)
        assert found[f"dearest {by}"] == found[by][:3], (by, filters)
    for key in (ContextKey("ann", "c1"), ContextKey("bob", "c1")):
        found[f"models of {key}"] = await reports.context_models(key)
        found[f"tree of {key}"] = await reports.tree(key)
    for name in ("models", "speed", "tools", "activity", "users"):
        found[name] = await getattr(reports, name)(**filters)
    return found


async def expect_the_same(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch, *many: Filters, some: Sequence[CostBy] = BY
) -> None:
    """Expect the same answers with the sums and without."""
    for filters in many:
        found = await answers(store, filters, some)
        with monkeypatch.context() as patch:
            patch.setattr(DailySums, "are_there", _are_not_there)
            from_rows = await answers(store, filters, some)
        for name, expected in from_rows.items():
            assert found[name] == expected, (name, filters)


async def _are_not_there(*_: object) -> bool:
    return False
