"""What a copy compares: a difference in any table is found, and what was pruned is none."""

from __future__ import annotations

import time
from typing import Any

import pytest
import sqlalchemy as sa

from taskctx_sql import ContextKey, SqlStore, TaskContext
from taskctx_sql.errors import RevisionNotFoundError
from taskctx_sql.maintenance import prune
from taskctx_sql.model import Retention, StateChange, Transferred
from taskctx_sql.sql.schema import tables
from taskctx_sql.sql.transfer import read, verify, write
from taskctx_sql.transfer import copy
from tests.support.contract import loaded, new_delta
from tests.support.rows import everything, rows_of
from tests.transfer.stores import url_of


async def test_what_was_pruned_in_the_source_leaves_the_target_too(
    database: SqlStore, other: SqlStore, busy: TaskContext, user: str
) -> None:
    await copy(url_of(database), url_of(other), user_id=user)
    context = await loaded(database, user, "c")
    del context.context_history[2:6]
    del context.model_tracker[0]
    for path in list(context.file_tracker)[:2]:
        context.track_file_operation(path, "again")
    del context.file_tracker[next(iter(context.file_tracker))]
    await context.save()
    context.add_context_update("message", "more")
    await context.save()
    await prune(database, Retention(removed_age=0), user_id=user, now=time.time() + 60)
    for compares in (True, False, True):
        result = await copy(url_of(database), url_of(other), user_id=user, verify=compares)
        assert result.ok
    assert (await loaded(other, user, "c")).to_dict() == (await loaded(database, user, "c")).to_dict()
    # What was between is refused by name, and what was before it in the target as well: it is no longer told apart.
    with pytest.raises(RevisionNotFoundError):
        await other.load(context.key, revision=context.revision - 2)


async def test_what_was_pruned_in_the_target_is_no_difference(
    database: SqlStore, other: SqlStore, busy: TaskContext, user: str
) -> None:
    await copy(url_of(database), url_of(other), user_id=user)
    await prune(other, Retention(removed_age=0), user_id=user, now=time.time() + 60)
    context = await loaded(database, user, "c")
    for revision in (None, None, 1):
        result = await copy(url_of(database), url_of(other), user_id=user)
        assert isinstance(result, Transferred)
        assert (result.problems, result.outcomes["refused"]) == ([], 0)
        assert (await loaded(other, user, "c")).to_dict() == (await loaded(database, user, "c")).to_dict()
        if revision is None:
            context.track_file_operation("f1", "again")
            await context.save()
        else:
            await context.restore(revision)
    assert (await copy(url_of(database), url_of(other), user_id=user)).ok
    # The target went on, and pruned what the source has still.
    there = await loaded(other, user, "c")
    del there.context_history[3]
    await there.save()
    await prune(other, Retention(removed_age=0), user_id=user, now=time.time() + 60)
    assert (await copy(url_of(database), url_of(other), user_id=user)).ok


async def test_values_that_expired_and_were_pruned_on_one_side_are_no_difference(
    database: SqlStore, other: SqlStore, busy: TaskContext, user: str
) -> None:
    ended = [StateChange(name, 1, expires_at=time.time() - 1) for name in ("again", "gone")]
    await database.save(new_delta(busy.key, state=ended))
    assert (await copy(url_of(database), url_of(other), user_id=user)).ok
    await prune(database, Retention(expired=True), user_id=user)
    assert (await copy(url_of(database), url_of(other), user_id=user)).ok
    # One of the names is set anew, while the target still has the version that expired.
    await database.save(new_delta(busy.key, state=[StateChange("again", 2)]))
    result = await copy(url_of(database), url_of(other), user_id=user)
    assert isinstance(result, Transferred)
    assert (result.outcomes["extended"], result.problems) == (1, [])
    assert await other.state(busy.key) == await database.state(busy.key)
    # And the other way round.
    await database.save(new_delta(busy.key, state=ended[1:]))
    assert (await copy(url_of(database), url_of(other), user_id=user)).ok
    await prune(other, Retention(expired=True), user_id=user)
    result = await copy(url_of(database), url_of(other), user_id=user)
    assert isinstance(result, Transferred)
    assert (result.outcomes["unchanged"], result.problems) == (1, [])


@pytest.mark.parametrize("by", ["verify_together", "verify_context"])
@pytest.mark.parametrize("what", ["save", "run", "new run", "prune", "delete"])
async def test_a_source_that_goes_on_while_it_is_compared_is_no_difference(
    database: SqlStore,
    other: SqlStore,
    busy: TaskContext,
    user: str,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    by: str,
) -> None:
    from taskctx_sql.sql.transfer import copy as sql_copy

    async def run(name: str) -> None:
        context = TaskContext({"user_id": user, "chat_id": "c"}, store=database)
        async with context:
            if what != "run" or name == "first":
                context.add_context_update("message", name)

    await run("first")
    comparing = getattr(verify, by)

    async def overtaken(*arguments: Any) -> None:
        if what == "prune":
            context = await loaded(database, user, "c")
            del context.context_history[0:3]
            await context.save()
            await prune(database, Retention(removed_age=0), user_id=user, now=time.time() + 60)
        elif what == "delete":
            await database.delete(ContextKey(user, "c"))
        else:
            await run("second")
        await comparing(*arguments)

    with monkeypatch.context() as patched:
        if by == "verify_context":
            # Then it counts as large.
            patched.setattr(read, "PAGE", 50)
        patched.setattr(sql_copy, by, overtaken)
        result = await copy(url_of(database), url_of(other), user_id=user)
    assert result.ok, result
    if what != "delete":
        result = await copy(url_of(database), url_of(other), user_id=user)
        assert result.ok, result
        assert (await loaded(other, user, "c")).to_dict() == (await loaded(database, user, "c")).to_dict()


async def test_a_context_that_is_deleted_while_it_is_copied_is_refused(
    database: SqlStore, other: SqlStore, busy: TaskContext, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = SqlStore.write_plan
    calls = 0

    async def overtaken(target: SqlStore, doing: str, steps: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            monkeypatch.setattr(SqlStore, "write_plan", write)
            await database.delete(busy.key)
        return await write(target, doing, steps, **more)

    monkeypatch.setattr(SqlStore, "write_plan", overtaken)
    result = await copy(url_of(database), url_of(other), user_id=user)
    assert result.problems[0].reason.startswith("it was deleted from the source")  # type: ignore[union-attr]
    assert await other.contexts(user) == []
    assert not await rows_of(other, tables.updates, user)


async def test_a_writer_in_the_target_is_never_overwritten(
    database: SqlStore, other: SqlStore, busy: TaskContext, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await copy(url_of(database), url_of(other), user_id=user)
    context = await loaded(database, user, "c")
    context.add_context_update("message", "here")
    await context.save()
    extend = write.extend

    def overtaken(seen: Any, source: Any, changes: Any) -> Any:
        stale = seen._replace(revision=seen.revision - 1)
        return extend(stale, source, changes)

    monkeypatch.setattr(write, "extend", overtaken)
    before = await everything(other, user)
    result = await copy(url_of(database), url_of(other), user_id=user)
    assert result.problems[0].reason.startswith("it was changed in the target while")  # type: ignore[union-attr]
    assert await everything(other, user) == before


@pytest.mark.parametrize("table", ["updates", "models", "files", "state", "runs", "revisions", "contexts"])
async def test_a_difference_in_any_table_is_found(
    database: SqlStore, other: SqlStore, busy: TaskContext, user: str, table: str
) -> None:
    await copy(url_of(database), url_of(other), user_id=user)
    column = {"runs": "outcome", "revisions": "run_id", "contexts": "metadata", "files": "source"}.get(table, "run_id")
    changed = getattr(tables, table)

    def spoil() -> Any:
        from taskctx_sql.sql.plan import Step

        mine = changed.c.context_id == sa.bindparam("whose", type_=sa.Text)
        context = yield from read.context_row(busy.key)
        assert context is not None
        yield Step(sa.update(changed).values({column: "x"}).where(mine), {"whose": context.context_id})

    await other.write_plan("spoil", spoil)
    result = await copy(url_of(database), url_of(other), user_id=user)
    assert isinstance(result, Transferred)
    if table in ("revisions",):
        assert result.outcomes["refused"] == 1
    elif table == "runs":
        # They are brought up to date, as they change without a revision.
        assert result.ok
    else:
        assert not result.ok
        assert result.problem_count >= 1
