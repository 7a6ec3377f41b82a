"""Small contexts are copied several in a transaction, and each is added, kept or refused by itself."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from taskctx_sql import ContextKey, SqlStore, open_store
from taskctx_sql.errors import StoreFailedError
from taskctx_sql.maintenance import prune
from taskctx_sql.model import Retention, Transferred
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.plan import Step
from taskctx_sql.sql.schema import tables
from taskctx_sql.sql.transfer import read, several, write
from taskctx_sql.transfer import copy
from tests.conftest import connection_of
from tests.support.contract import loaded, new_delta, stored
from tests.support.rows import everything
from tests.transfer.stores import url_of

COUNT = 8


@pytest.fixture
async def source(database_url: str, user: str) -> AsyncIterator[SqlStore]:
    """A database of each kind in turn, with small contexts in it: removed rows, changed files, several runs."""
    async with open_store(database_url) as store:
        assert isinstance(store, SqlStore)
        for number in range(COUNT):
            for turn in range(2):
                context = await loaded(store, user, f"c{number}")
                async with context:
                    for place in range(3):
                        context.add_context_update("message", {"number": number, "place": place, "text": "\x00é"})
                    context.track_file_operation("f", f"op {turn}")
                    context.track_model_usage("m", "p", "chat")
                    context.metadata["turn"] = turn
                    await context.save()
                    del context.context_history[1]
        yield store


@pytest.fixture
async def target(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> AsyncIterator[SqlStore]:
    """A second database, of the other kind."""
    kind = "postgres" if database_url.startswith("sqlite") else "sqlite"
    async with open_store(connection_of(kind, tmp_path, request).address) as store:
        assert isinstance(store, SqlStore)
        yield store


async def copied(source: SqlStore, target: SqlStore, user: str, **more: Any) -> Transferred:
    result = await copy(url_of(source), url_of(target), user_id=user, **more)
    assert isinstance(result, Transferred)
    return result


def outcomes(result: Transferred) -> dict[str, int]:
    return {outcome: count for outcome, count in result.outcomes.items() if count}


def count_writes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    writes: list[str] = []
    real = SqlStore.write_plan

    async def counted(store: SqlStore, doing: str, steps: Any, **more: Any) -> Any:
        writes.append(doing)
        return await real(store, doing, steps, **more)

    monkeypatch.setattr(SqlStore, "write_plan", counted)
    return writes


def before_rows_are_read(monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    """Do something once, before the first rows are read from the source."""
    real = SqlStore.read

    async def overtaken(store: SqlStore, doing: str, steps: Any, **more: Any) -> Any:
        if doing == "read":
            monkeypatch.setattr(SqlStore, "read", real)
            await act()
        return await real(store, doing, steps, **more)

    monkeypatch.setattr(SqlStore, "read", overtaken)


def is_grouped(*stores: SqlStore) -> bool:
    return not any(store.is_distributed for store in stores)


@pytest.mark.parametrize("verify", [True, False])
async def test_they_share_a_transaction_and_have_the_same_rows(
    source: SqlStore, target: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch, verify: bool
) -> None:
    writes = count_writes(monkeypatch)
    told: list[tuple[str, int, int | None]] = []
    for outcome, expected in (("added", ["copy"]), ("unchanged", [])):
        writes.clear()
        told.clear()
        result = await copied(source, target, user, verify=verify, progress=lambda *one: told.append(one))
        assert (result.ok, outcomes(result)) == (True, {outcome: COUNT})
        assert result.updates == result.added + (result.updates if outcome == "unchanged" else 0)
        assert result.verified == (result.updates if verify else None)
        assert await everything(target, user) == await everything(source, user)
        done, total = told[-1][1:]
        assert done == total == result.updates * (2 if verify else 1)
        assert {name.partition(" ")[0] for name, _, _ in told} == {"copying", *(["comparing"] if verify else [])}
        if is_grouped(source, target):
            assert writes == expected


async def test_a_large_one_among_them_goes_in_pages(
    source: SqlStore, target: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await source.save(new_delta(ContextKey(user, "large"), *range(300)))
    monkeypatch.setattr(read, "PAGE", 100)
    writes = count_writes(monkeypatch)
    result = await copied(source, target, user)
    assert (result.ok, outcomes(result)) == (True, {"added": COUNT + 1})
    assert await everything(target, user) == await everything(source, user)
    # The small ones have 200 rows at least.
    assert len(writes) > 6


async def test_each_that_is_refused_is_reported_and_costs_no_neighbour(
    source: SqlStore, target: SqlStore, user: str
) -> None:
    for chat in ("c2", "c5"):
        await target.save(new_delta(ContextKey(user, chat), "mine"))
    result = await copied(source, target, user)
    assert outcomes(result) == {"added": COUNT - 2, "refused": 2}
    assert {(one.where, one.reason) for one in result.problems} == {
        (str(ContextKey(user, chat)), "the target has another context of that user and chat, created at another time")
        for chat in ("c2", "c5")
    }
    assert await stored(target, ContextKey(user, "c2")) == ["mine"]
    assert await stored(target, ContextKey(user, "c3")) == await stored(source, ContextKey(user, "c3"))


@pytest.mark.parametrize("at_once", [False, True])
async def test_one_that_somebody_creates_in_the_target_meanwhile_is_refused_alone(
    source: SqlStore, target: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch, at_once: bool
) -> None:
    key = ContextKey(user, "c3")

    async def create() -> None:
        await target.save(new_delta(key, "mine"))

    before_rows_are_read(monkeypatch, create)
    if at_once:
        # As if it were committed after the transaction has looked.
        def nothing_there(engine: str, context_ids: Any) -> Any:
            yield from ()
            return {}

        monkeypatch.setattr(several, "read_contexts", nothing_there)
        monkeypatch.setattr("taskctx_sql.sql.transfer.copy.change_since", lambda context, now: None)
    result = await copied(source, target, user)
    assert outcomes(result) == {"added": COUNT - 1, "refused": 1}
    assert result.problems[0].where == str(key)
    assert await stored(target, key) == ["mine"]
    monkeypatch.undo()
    again = await copied(source, target, user)
    assert outcomes(again) == {"unchanged": COUNT - 1, "refused": 1}


async def test_what_happens_in_the_source_meanwhile_is_of_one_state_for_each(
    source: SqlStore, target: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act() -> None:
        assert await source.delete(ContextKey(user, "c1"))
        pruned, saved = await loaded(source, user, "c2"), await loaded(source, user, "c4")
        for context in (pruned, saved):
            del context.context_history[0]
            context.add_context_update("message", "late")
            context.track_file_operation("f", "late")
            await context.save()
        user_of_pruned = Retention(removed_age=0)
        assert (await prune(source, user_of_pruned, user_id=user, now=time.time() + 60)).rows

    before = await stored(source, ContextKey(user, "c3"))
    before_rows_are_read(monkeypatch, act)
    result = await copied(source, target, user)
    assert outcomes(result) == {"added": COUNT - 1, "refused": 1}
    assert result.problems[0].where == str(ContextKey(user, "c1"))
    assert "deleted from the source" in result.problems[0].reason
    assert await stored(target, ContextKey(user, "c3")) == before
    assert (await copied(source, target, user)).ok
    assert await everything(target, user) == await everything(source, user)


async def test_what_is_saved_and_removed_in_the_source_meanwhile_comes_with_the_next_copy(
    source: SqlStore, target: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await everything(source, user)

    async def act() -> None:
        context = await loaded(source, user, "c4")
        del context.context_history[0]
        context.file_tracker.clear()
        context.add_context_update("message", "late")
        await context.save()

    before_rows_are_read(monkeypatch, act)
    result = await copied(source, target, user)
    assert (result.ok, outcomes(result)) == (True, {"added": COUNT})
    then = await everything(target, user)
    # Runs have no revisions.
    assert {name: rows for name, rows in then.items() if name != "taskctx_runs"} == {
        name: rows for name, rows in before.items() if name != "taskctx_runs"
    }
    again = await copied(source, target, user)
    assert (again.ok, outcomes(again)) == (True, {"extended": 1, "unchanged": COUNT - 1})
    assert await everything(target, user) == await everything(source, user)


@pytest.mark.parametrize("after", [1, 3, 5])
async def test_a_transaction_that_breaks_off_shows_none_of_them_and_they_go_one_by_one(
    source: SqlStore, target: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    seen: list[dict[str, list[tuple[Any, ...]]]] = []

    def broken(*arguments: Any) -> Any:
        plan = add(*arguments)
        step = next(plan)
        for _ in range(after):
            step = plan.send((yield step))
        raise StoreFailedError("copy", "", "made for this test")

    async def look(store: SqlStore, doing: str, steps: Any, **more: Any) -> Any:
        if getattr(steps, "func", None) is write.begin and not seen:
            seen.append(await everything(target, user))
        return await real(store, doing, steps, **more)

    add, real = several.add, SqlStore.write_plan
    monkeypatch.setattr(several, "add", broken)
    monkeypatch.setattr(SqlStore, "write_plan", look)
    result = await copied(source, target, user)
    assert not any(seen[0].values())
    assert (result.ok, outcomes(result)) == (True, {"added": COUNT})
    assert await everything(target, user) == await everything(source, user)


@pytest.mark.parametrize("table", ["updates", "models", "files", "revisions", "contexts"])
async def test_a_difference_in_one_of_them_is_found(source: SqlStore, target: SqlStore, user: str, table: str) -> None:
    await copied(source, target, user)
    column = {"contexts": "metadata", "files": "source"}.get(table, "run_id")
    changed, key = getattr(tables, table), ContextKey(user, "c6")

    def spoil() -> Any:
        mine = changed.c.context_id == sa.bindparam("whose", type_=sa.Text)
        yield Step(sa.update(changed).values({column: "x"}).where(mine), {"whose": row_codec.context_id(key)})

    await target.write_plan("spoil", spoil)
    result = await copied(source, target, user)
    assert not result.ok
    assert {one.where for one in result.problems} == {str(key)}
    assert result.outcomes["unchanged"] + result.outcomes["refused"] == COUNT


@pytest.mark.parametrize("anew", [False, True])
async def test_one_that_the_target_has_and_the_source_loses_meanwhile_is_refused_as_deleted(
    source: SqlStore, target: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch, anew: bool
) -> None:
    await copied(source, target, user)
    key = ContextKey(user, "c1")
    context = await loaded(source, user, "c1")
    context.add_context_update("message", "more")
    await context.save()
    before = await stored(target, key)

    async def act() -> None:
        assert await source.delete(key)
        base = None
        for number in range(8 if anew else 0):
            base = (await source.save(new_delta(key, number, base=base))).base

    before_rows_are_read(monkeypatch, act)
    result = await copied(source, target, user)
    assert outcomes(result) == {"unchanged": COUNT - 1, "refused": 1}
    assert "deleted from the source" in result.problems[0].reason
    assert await stored(target, key) == before
