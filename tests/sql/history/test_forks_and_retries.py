"""Forks of an earlier state, and operations that are done again, happen once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest

from taskctx_sql import ContextKey, SqlStore, Store, TaskContext
from taskctx_sql.errors import (
    ContextExistsError,
    ContextNotFoundError,
    NothingToUndoError,
    RevisionNotFoundError,
    StoreFailedError,
)
from tests.sql.history.contexts import grown, messages, state, unchanged
from tests.support.contract import loaded, stored
from tests.support.faults import FaultyStore


@pytest.mark.wide
@pytest.mark.parametrize("call", ["undo", "restore"])
async def test_an_operation_that_did_not_return_and_is_done_again_happens_once(
    store: Store, user: str, call: str
) -> None:
    async def operate(context: TaskContext) -> int:
        return await (context.undo() if call == "undo" else context.restore(2))

    for turns in range(40):
        context = await loaded(store, user, f"c{turns}")
        for data in "aabbc":
            context.add_context_update("message", data)
        await context.save()
        for size in (100, 2):
            context.optimize_context(size)
            await context.save()
        # Interrupted several times, each time a little later.
        for more in (0, 3):
            job = asyncio.create_task(operate(context))
            for _ in range(turns + more):
                await asyncio.sleep(0)
            done = job.done()
            job.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await job
            if not job.cancelled():
                break
        if job.cancelled():
            assert await operate(context) == context.revision
        listed = await context.revisions()
        assert sum(one.operation == call for one in listed) == 1
        assert context.revision == listed[0].revision
        assert (await loaded(store, user, f"c{turns}")).to_dict() == context.to_dict()
        # The next one is another one.
        await operate(context)
        assert sum(one.operation == call for one in await context.revisions()) == 2
        if done:
            break


async def test_an_operation_whose_result_could_not_be_loaded_is_done_again_once(store: SqlStore, user: str) -> None:
    class Away(FaultyStore):
        fails = False

        async def load(self, *arguments: Any, **more: Any) -> Any:
            if self.fails:
                raise StoreFailedError("load", self.database_url, "away")
            return await super().load(*arguments, **more)

    faulty = Away(store)
    context = await loaded(faulty, user)
    for data in "aabbc":
        context.add_context_update("message", data)
    await context.save()
    for size in (100, 2):
        context.optimize_context(size)
        await context.save()
    faulty.fails = True
    for _ in range(3):
        with pytest.raises(StoreFailedError):
            await context.undo()
    faulty.fails = False
    await context.undo()
    assert [one.operation for one in await context.revisions()].count("undo") == 1
    await context.undo()
    assert [one.operation for one in await context.revisions()].count("undo") == 2
    with pytest.raises(NothingToUndoError):
        await context.undo()
    assert await context.save() == context.revision


async def test_a_fork_starts_from_a_state_and_goes_its_own_way(store: Store, user: str) -> None:
    context = await grown(store, user)
    await context.load(revision=2)
    was = state(context)
    forked = await context.fork("other")
    assert state(forked)[1:] == was[1:]
    assert forked.to_dict() == was[0] | {"chat_id": "other"}
    forked.add_context_update("message", "mine")
    await forked.save()
    await context.load()
    assert messages(context) == [1, 2, 3, 4]
    assert messages(await loaded(store, user, "other")) == [1, 2, "mine"]
    first = (await forked.revisions())[-1]
    assert (first.operation, first.source_revision, first.source_chat_id) == ("fork", 2, "c1")
    assert messages(await context.fork("newest")) == [1, 2, 3, 4]


async def test_a_fork_onto_a_chat_that_is_there_is_refused(store: Store, user: str) -> None:
    context = await grown(store, user)
    other = await loaded(store, user, "other")
    other.add_context_update("message", "theirs")
    await other.save()
    for chat in ("other", "c1"):
        error = await unchanged(store, other.key, context.fork(chat), ContextExistsError)
        assert repr(chat) in str(error)
    assert await stored(store, other.key) == ["theirs"]


async def test_what_is_read_beside_a_delete_is_of_one_moment(store: SqlStore, user: str) -> None:
    key = ContextKey(user, "c1")
    until = time.monotonic() + 1.5
    torn: list[Any] = []

    async def writer() -> None:
        generation = 0
        while time.monotonic() < until:
            generation += 1
            context = TaskContext({"user_id": user, "chat_id": "c1"}, store=store)
            for _ in range(30):
                context.add_context_update("message", generation)
            context.metadata["generation"] = generation
            await context.save()
            await asyncio.sleep(0)
            await store.delete(key)

    def check(loaded: Any) -> None:
        generations = {row.update.data for row in loaded.updates}
        if loaded.revision and (len(loaded.updates) != 30 or generations != {loaded.metadata["generation"]}):
            torn.append((loaded.revision, len(loaded.updates), generations, loaded.metadata))

    async def reader() -> None:
        while time.monotonic() < until:
            check(await store.load(key))

    async def forker() -> None:
        number = 0
        while time.monotonic() < until:
            number += 1
            with contextlib.suppress(ContextNotFoundError, RevisionNotFoundError):
                check(await store.load(await store.fork(key, f"fork {number}")))

    async def lister() -> None:
        while time.monotonic() < until:
            with contextlib.suppress(ContextNotFoundError):
                found = [revision.revision for revision in await store.revisions(key)]
                if found != [1]:
                    torn.append(found)

    async def pager() -> None:
        while time.monotonic() < until:
            found = [row.update.data async for row in store.updates(key)]
            if len(found) not in (0, 30) or len(set(found)) > 1:
                torn.append(found)

    await asyncio.gather(writer(), reader(), reader(), forker(), lister(), pager())
    assert not torn


async def test_the_cost_of_a_model_use_counts_once(store: Store, user: str) -> None:
    assert isinstance(store, SqlStore)
    context = await grown(store, user)
    await context.restore(1)
    await context.restore(4)
    await context.undo()
    await context.fork("other")
    models = await store.reports.models(user_id=user)
    assert sum(one.calls for one in models) == 4
    assert sum(one.cost for one in models) == 4.0
    costs = {one.chat_id: one.cost for one in await store.reports.tasks(user_id=user)}
    assert costs == {"c1": 4.0, "other": 0.0}
