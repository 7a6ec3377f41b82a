"""Examining daily sums: what is wrong with them is found, and the remedy mends it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql import ContextKey, SqlStore, schema
from taskctx_sql.maintenance import examine
from taskctx_sql.sql.backends import catch_up
from taskctx_sql.sql.maintenance import sums_checks
from tests.conftest import new_database

KEYS = [ContextKey(user, chat) for user in ("ann", "bob") for chat in ("c1", "c2")]
USE = {"model_id": "m", "cost": 0.1, "duration": 0.3, "timestamp": 1_767_225_600.0}
GOOD = [("ok", "the daily sums have what the rows say")]


@pytest.fixture(scope="module")
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A database of these tests: sums have the tasks of all tests of its database."""
    with new_database(postgres_server) as url:
        yield url


@pytest.fixture
async def summed(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[AsyncEngine, SqlStore]]:
    """A database whose tasks are all summed, and a store that does not look for sums."""
    monkeypatch.setattr(catch_up, "LOOK_SECONDS", math.inf)
    sql_store = await SqlStore.open(engine)
    for key in KEYS:
        await sql_store.write(key, updates=[("message", "hello")], models=[USE, {**USE, "timestamp": None}])
    await schema.upgrade(engine, sums=True)
    yield engine, sql_store
    await schema.upgrade(engine, sums=False)
    for key in KEYS:
        await sql_store.delete(key)
    await sql_store.close()


async def execute(engine: AsyncEngine, *statements: str) -> None:
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(sa.text(statement))


async def findings(engine: AsyncEngine) -> list[tuple[str, str]]:
    """What is said about the sums: levels and messages."""
    found = [finding for finding in (await examine(engine)).findings if finding.check == "sums"]
    assert all("taskctx upgrade --sums" in finding.remedy for finding in found if finding.level != "ok")
    return [(finding.level, finding.message) for finding in found]


OTHERWISE = "{} tasks of the newest 200 whose rows add up to something else"
DAYS = "{} days of which the sums are not those of the tasks"
FAULTS = {
    "DELETE FROM taskctx_sums_parts WHERE context_id = (SELECT min(context_id) FROM taskctx_contexts)": (
        ["1 tasks that are not in them", OTHERWISE.format(1), DAYS.format(2)]
    ),
    "UPDATE taskctx_sums_parts SET context_id = 'x' || context_id WHERE context_id = ("
    "SELECT min(context_id) FROM taskctx_contexts)": (
        ["1 tasks that are not in them", "1 tasks in them that are not there", OTHERWISE.format(1)]
    ),
    "UPDATE taskctx_sums_parts SET bytes = bytes + 1 WHERE per = 'type'": ([OTHERWISE.format(4), DAYS.format(1)]),
    "UPDATE taskctx_sums_days SET cost = cost + 0.001 WHERE user_id IS NULL AND per = 'day'": ([DAYS.format(2)]),
    "INSERT INTO taskctx_sums_days SELECT * FROM taskctx_sums_days WHERE user_id = 'ann' AND per = 'own'": (
        [DAYS.format(1)]
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_sums_are_compared_with_the_rows(summed: tuple[AsyncEngine, SqlStore], fault: str) -> None:
    engine, _ = summed
    assert await findings(engine) == GOOD
    await execute(engine, fault)
    assert await findings(engine) == [("error", f"the daily sums are wrong: {what}") for what in FAULTS[fault]]
    await schema.upgrade(engine, sums=False)
    await schema.upgrade(engine, sums=True)
    assert await findings(engine) == GOOD


async def test_sums_without_a_trigger_or_far_behind_are_found_and_mended(
    summed: tuple[AsyncEngine, SqlStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, sql_store = summed
    of_table = "" if engine.dialect.name == "sqlite" else " ON taskctx_runs"
    await execute(engine, f"DROP TRIGGER taskctx_sums_runs_changed{of_table}")
    ((level, message),) = await findings(engine)
    assert level == "error"
    assert "have no taskctx_sums_runs_changed" in message
    await schema.upgrade(engine, sums=True)
    assert await findings(engine) == GOOD
    if of_table:
        for fault in (
            "ALTER TABLE taskctx_state DISABLE TRIGGER taskctx_sums_state_added",
            "DROP FUNCTION taskctx_sums_fold",
        ):
            await execute(engine, fault)
            assert "have no taskctx_sums" in (await findings(engine))[0][1]
            await schema.upgrade(engine, sums=True)
            assert await findings(engine) == GOOD
    await sql_store.write(KEYS[0], updates=[("message", "more")])
    assert await findings(engine) == GOOD
    monkeypatch.setattr(sums_checks, "FAR_BEHIND", 0)
    assert await findings(engine) == [("warning", "the daily sums are behind by 1 task, which each report reads")]
