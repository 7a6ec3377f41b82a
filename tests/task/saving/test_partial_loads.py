"""Contexts of which only the newest updates were loaded."""

from __future__ import annotations

from taskctx_sql import ContextKey, Store
from tests.support.contract import loaded, stored
from tests.task.saving.contexts import fill


async def test_a_limited_context_reaches_the_rest_and_changes_only_its_part(store: Store, user: str) -> None:
    context = await loaded(store, user)
    fill(context, 30)
    await context.save()
    part = await loaded(store, user, history_limit=5)
    assert [update.data for update in part.context_history] == [f"m{n}" for n in range(25, 30)]
    assert not part.history_complete
    assert [update.data async for update in part.earlier_updates()] == [f"m{n}" for n in range(24, -1, -1)]
    part.optimize_context(max_size=3)
    part.add_context_update("message", "new")
    await part.save()
    assert await stored(store, part.key) == [*(f"m{n}" for n in range(25)), "m29", "new"]
    assert len([update async for update in part.earlier_updates()]) == 25


async def test_a_complete_context_has_no_earlier_updates(store: Store, user: str) -> None:
    context = await loaded(store, user)
    fill(context, 3)
    await context.save()
    again = await loaded(store, user, history_limit=3)
    assert again.history_complete
    assert [update async for update in again.earlier_updates()] == []


async def test_a_context_in_use_is_found_under_its_key(store: Store, user: str) -> None:
    context = await loaded(store, user)
    assert context.key == ContextKey(user, "c1")
    assert context.is_new
    await context.save()
    assert not context.is_new


async def test_the_newest_that_are_left_are_found_behind_many_that_were_removed(store: Store, user: str) -> None:
    context = await loaded(store, user)
    fill(context, 3000)
    await context.save()
    left = context.context_history[5:105:2]
    context.context_history = left
    await context.save()
    for limit in (0, 1, 10, 49, 50, 51):
        part = await loaded(store, user, history_limit=limit)
        assert [update.data for update in part.context_history] == [
            update.data for update in left[50 - min(limit, 50) :]
        ]
        assert part.history_complete == (limit >= 50)
        assert len([update async for update in part.earlier_updates()]) == max(0, 50 - limit)
    for newest_first in (False, True):
        rows = [row async for row in store.updates(context.key, newest_first=newest_first)]
        assert [row.update.data for row in rows] == [update.data for update in left[:: -1 if newest_first else 1]]
