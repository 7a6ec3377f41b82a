"""Saves that a database will never take, and databases that were set back to an older copy."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from taskctx_sql import SqlStore, TaskContext, open_store
from taskctx_sql.errors import LostContextError, SaveRefusedError
from tests.support.contract import expect_reload, loaded, stored

TRIGGERS = {
    "sqlite": (
        "CREATE TRIGGER refuse BEFORE INSERT ON taskctx_updates WHEN NEW.data LIKE '%POISON%'"
        " BEGIN SELECT RAISE(ABORT, 'no poison here'); END",
    ),
    "postgresql": (
        # Citus asks for it; elsewhere it means nothing.
        "SET LOCAL citus.enable_unsafe_triggers TO on",
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.data LIKE '%POISON%' THEN RAISE EXCEPTION 'no poison here'; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER refuse BEFORE INSERT ON taskctx_updates FOR EACH ROW EXECUTE FUNCTION refuse()",
    ),
}
TRIGGER_GOES = {
    "sqlite": ("DROP TRIGGER refuse",),
    "postgresql": ("SET LOCAL citus.enable_unsafe_triggers TO on", "DROP FUNCTION refuse CASCADE"),
}


@pytest.fixture
async def store(sql_store: SqlStore) -> SqlStore:
    return sql_store


async def execute(store: SqlStore, *statements: str, **parameters: Any) -> None:
    async with store._backend.engine.begin() as connection:
        for statement in statements:
            await connection.execute(sa.text(statement), parameters)


@pytest.mark.parametrize("how", ["an append", "with metadata", "cancelled, then refused"])
async def test_a_save_that_the_database_will_never_take_is_refused_at_once_and_can_be_mended(
    store: SqlStore, user: str, how: str
) -> None:
    engine = store._backend.engine.dialect.name
    await execute(store, *TRIGGERS[engine])
    try:
        context, neighbor = await loaded(store, user), await loaded(store, user, "neighbor")
        context.add_context_update("m", "good")
        await context.save()
        context.add_context_update("m", "POISON")
        neighbor.add_context_update("m", "beside it")
        if how == "with metadata":
            context.metadata["k"] = 1
        if how.startswith("cancelled"):
            saving = asyncio.ensure_future(context.save())
            await asyncio.sleep(0)
            saving.cancel()
            await asyncio.gather(saving, return_exceptions=True)
        results = await asyncio.gather(context.save(), neighbor.save(), return_exceptions=True)
        assert isinstance(results[0], SaveRefusedError)
        assert "no poison here" in str(results[0])
        assert not results[0].outcome_unknown
        assert results[1] == 1
        context.context_history.pop()
        context.add_context_update("m", "later")
        await context.save()
        await context.load()
        assert await stored(store, context.key) == ["good", "later"]
        context.add_context_update("m", "POISON")
        with pytest.raises(SaveRefusedError):
            await context.save()
        await context.discard()
        assert not context.has_unsaved_changes
        await expect_reload(store, context)
    finally:
        await execute(store, *TRIGGER_GOES[engine])


@pytest.mark.parametrize("code", ["P0001", "QU001", "53400", "54000"])
async def test_a_quota_of_the_database_is_a_refusal(postgres_url: str, user: str, code: str) -> None:
    async with open_store(postgres_url, retry_seconds=5) as store:
        assert isinstance(store, SqlStore)
        *_, function, trigger = TRIGGERS["postgresql"]
        named = function.replace("'no poison here'", f"'no poison here' USING ERRCODE = '{code}'")
        await execute(store, named, trigger)
        try:
            context = await loaded(store, user)
            context.add_context_update("m", "POISON")
            with pytest.raises(SaveRefusedError):
                await context.save()
        finally:
            await execute(store, *TRIGGER_GOES["postgresql"])


@pytest.mark.parametrize("begun", ["before", "after"])
@pytest.mark.parametrize("change", ["append", "edit", "remove", "optimize"])
async def test_a_database_that_was_set_back_takes_nothing_of_a_newer_context(
    store: SqlStore, user: str, begun: str, change: str
) -> None:
    first = await loaded(store, user)
    for number in range(3):
        first.add_context_update("m", number)
        await first.save()
    context = first if begun == "before" else await loaded(store, user)
    for number in (3, 3):
        context.add_context_update("m", number)
        await context.save()
    await execute(
        store,
        "DELETE FROM taskctx_updates WHERE added_in > 3",
        "DELETE FROM taskctx_revisions WHERE revision > 3",
        "UPDATE taskctx_contexts SET revision = 3, next_seq = 4",
        "UPDATE taskctx_runs SET saves = 3 WHERE saves = 5",
        "DELETE FROM taskctx_runs WHERE saves = 2",
    )
    if change == "append":
        context.add_context_update("m", "new")
    elif change == "edit":
        context.context_history[4].data = "edited"
    elif change == "remove":
        del context.context_history[3]
    else:
        context.optimize_context(100)
    with pytest.raises(LostContextError, match="set back"):
        await context.save()
    assert await stored(store, context.key) == [0, 1, 2]
    await context.load()
    await context.save()
    await expect_reload(store, context)


async def test_two_contexts_that_never_saved_may_begin_one(store: SqlStore, user: str) -> None:
    one, other = (TaskContext({"user_id": user, "chat_id": "c1"}, store=store) for _ in range(2))
    for context in (one, other):
        context.add_context_update("m", 1)
        await context.save()
    one.add_context_update("m", 2)
    await one.save()
    assert await stored(store, one.key) == [1, 1, 2]
