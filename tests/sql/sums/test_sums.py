"""Daily sums: the same answers as from the rows, whatever was saved and removed, and however much is summed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from taskctx_sql import ContextKey, SqlStore, Store, TaskContext, clock, open_store, schema
from taskctx_sql.errors import NothingToUndoError
from taskctx_sql.maintenance import Retention, erase, prune
from taskctx_sql.model import Run, RunOutcome
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.backends import catch_up
from taskctx_sql.sql.engines import create_engine, parse_url
from taskctx_sql.sql.schema.sum_tables import days
from tests.sql.sums.comparing import BY, START, USERS, expect_the_same, fold, some_filters, some_updates, uses

ENDS: tuple[tuple[float | None, RunOutcome | None], ...] = ((None, None), (9.0, "completed"), (9.0, "failed"))
SAVES = itertools.count(1)


async def change(store: SqlStore, chance: random.Random) -> str:
    """Do one of the things that programs do to contexts, and return its name."""
    key = ContextKey(chance.choice(USERS), f"c{chance.randrange(4)}")
    found = await store.contexts(key.user_id)
    is_there = key.chat_id in {context.chat_id for context in found}
    revision = max((context.revision or 0 for context in found if context.chat_id == key.chat_id), default=0)
    name = chance.choice(["write", "write", "write", "fork", "restore", "undo", "prune", "erase", "delete"])
    context = TaskContext({"user_id": key.user_id, "chat_id": key.chat_id}, store=store)
    if name == "fork" and is_there:
        if "f" not in {context.chat_id for context in found}:
            await store.fork(key, "f")
    elif name == "restore" and revision > 1:
        await context.restore(chance.randrange(1, revision))
    elif name == "undo" and is_there:
        with contextlib.suppress(NothingToUndoError):
            await context.undo()
    elif name == "prune":
        await prune(store, chance.choice([Retention(removed_age=0), Retention(max_contexts=3)]), batch=2)
    elif name == "erase":
        await erase(store, key.user_id, key.chat_id, batch=1)
    elif name == "delete":
        await store.delete(key)
    else:
        labels, parent = {"team": chance.choice("xy")}, chance.choice([None, "c1"])
        models, state = uses(chance, chance.randrange(1, 4)), {"plan": chance.choice(["a", "é" * 9])}
        run = Run(f"r{chance.randrange(3)}", next(SAVES), 0.0, *chance.choice(ENDS))
        written: dict[str, Any] = {
            "updates": some_updates(chance),
            "models": chance.choice([models, []]),
            "state": state,
        }
        await store.write(key, **written, labels=labels, parent=parent, run=run)
    return name


async def test_answers_are_those_of_the_rows_whatever_happens(
    own_url: str, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(5)
    for _ in range(10):
        await change(store, chance)
        if chance.random() < 0.4:
            await fold(store, chance.randrange(1, 4))
        await expect_the_same(store, monkeypatch, some_filters(chance), some=chance.sample(BY, 1))
    while await fold(store, 2):
        pass
    assert await schema.sums_backlog(own_url) == 0
    await expect_the_same(store, monkeypatch, {}, {"user_id": "ann", "since": START.date()})
    every = sa.select(*(sa.cast(column, sa.Text) for column in days.c))
    folded = sorted(map(str, await store.query(every)))
    await schema.upgrade(own_url, sums=False)
    await schema.upgrade(own_url, sums=True)
    assert sorted(map(str, await store.query(every))) == folded
    assert folded


async def test_one_task_and_its_tree_are_added_up_whether_they_wait_or_not(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, key, below = random.Random(2), ContextKey("ann", "c1"), ContextKey("ann", "c2")
    await store.write(key, models=uses(chance, 5))
    await store.write(below, models=uses(chance, 5), parent="c1")
    await fold(store, 10)
    await expect_the_same(store, monkeypatch, {})
    await store.write(key, models=uses(chance, 3))
    await expect_the_same(store, monkeypatch, {})
    assert sum(use.calls for use in await store.reports.context_models(key)) == 8
    assert [(node.tasks, node.calls) for node in await store.reports.tree(below)] == [(2, 13), (1, 5)]


async def test_a_change_that_is_not_committed_when_its_context_is_summed_stays_noted(
    own_url: str, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ContextKey("ann", "c1")
    await store.write(key, models=uses(random.Random(1), 3))
    if store.engine_name == "postgresql":
        other = create_engine(parse_url(own_url))
        async with other.begin() as connection:
            # As a save does that goes on meanwhile.
            await connection.execute(
                sa.text(
                    "INSERT INTO taskctx_models (context_id, seq, model_id, cost, added_in, run_id)"
                    " VALUES (:context_id, 77, 'late', 2, 1, 'r')"
                ),
                {"context_id": row_codec.context_id(key)},
            )
            assert await fold(store, 10) == 1
        await other.dispose()
        assert await schema.sums_backlog(own_url) == 1
    else:
        assert await fold(store, 10) == 1
        await store.write(key, models=[{"model_id": "late", "cost": 2}])
    await expect_the_same(store, monkeypatch, {})
    assert await fold(store, 10) == 1
    assert await schema.sums_backlog(own_url) == 0
    assert {row.name for row in await store.reports.costs("model")} >= {"late"}
    await expect_the_same(store, monkeypatch, {})


async def test_open_stores_sum_what_is_saved_and_erased_while_others_do(
    own_url: str, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "IDLE", 0.01)
    async with open_store(own_url) as one, open_store(own_url, strict=True) as two:

        async def save(saver: Store, user: str) -> None:
            for number in range(5):
                await saver.write(ContextKey(user, f"c{number % 2}"), models=[{"model_id": "m", "cost": 1.5}])

        await asyncio.gather(save(one, "ann"), save(two, "bob"), save(two, "ann"))
        await until_summed(own_url)
    # A store that saves nothing.
    async with open_store(own_url) as other:
        await erase(other, "bob")
        await until_summed(own_url)
        assert [(row.name, row.calls, row.cost, row.tasks) for row in await other.reports.costs("user")] == [
            ("ann", 10, 15.0, 2)
        ]
    await expect_the_same(store, monkeypatch, {})
    assert set(await store.query(sa.select(days.c.user_id))) == {("ann",), (None,)}


async def until_summed(url: str) -> None:
    async with asyncio.timeout(60):
        while await schema.sums_backlog(url):  # noqa: ASYNC110  # others bring them up to date
            await asyncio.sleep(0.02)


async def test_a_use_that_is_pruned_leaves_the_sums(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    key = ContextKey("ann", "c1")
    for _ in range(2):
        await store.write(key, updates=[("message", "hello")], models=[{"model_id": "m", "cost": 1.5}])
    # What a restore removes counts until it is pruned.
    await TaskContext({"user_id": key.user_id, "chat_id": key.chat_id}, store=store).restore(1)
    assert await fold(store, 10) == 1
    assert [row.calls for row in await store.reports.costs("model")] == [2]
    await prune(store, Retention(removed_age=0))
    assert [row.calls for row in await store.reports.costs("model")] == [1]
    await expect_the_same(store, monkeypatch, {})


async def test_what_is_there_already_is_summed_by_days_and_users(store: SqlStore, own_url: str) -> None:
    await schema.upgrade(own_url, sums=False)
    for number in range(6):
        key, at = ContextKey(USERS[number % 2], f"c{number}"), START.timestamp() + number
        with clock.replaced(partial(float, at)):
            await store.write(key, models=[{"model_id": "m", "timestamp": at}])
    engine = create_engine(parse_url(own_url))
    async with engine.begin() as connection:
        await schema.upgrade(connection, sums=True)
    await engine.dispose()
    assert await fold(store, 3) == 3
    # Else each portion would compute the days of all users anew.
    assert len(await store.query(sa.select(days.c.user_id).where(days.c.user_id.is_not(None)).distinct())) == 1


async def test_a_context_that_is_saved_often_is_summed_once(store: SqlStore, own_url: str) -> None:
    for number in range(5):
        await store.write(
            ContextKey("ann", "often"), models=[{"model_id": "m", "timestamp": START.timestamp() + number}]
        )
    assert await fold(store, 1) == 1
    assert await schema.sums_backlog(own_url) == 0
