"""The newest updates that fit."""

from __future__ import annotations

from typing import Any

import pytest

from taskctx_sql import SqlStore, Store, TaskContext
from taskctx_sql.model import UpdateSize
from taskctx_sql.sql.load import window
from tests.support.contract import loaded


async def filled(store: Store, user: str, *entries: tuple[str, Any, str | None]) -> TaskContext:
    """A context with entries of (type, data, group)."""
    context = await loaded(store, user)
    for kind, data, group in entries:
        context.add_context_update(kind, data, {"group": group} if group else {})
    await context.save()
    return context


async def chosen(store: Store, context: TaskContext, **selection: Any) -> list[Any]:
    return [row.update.data for row in (await store.load(context.key, **selection)).updates]


async def test_the_newest_that_fit_come_in_order(store: Store, user: str) -> None:
    # A digit is one character of JSON, and a text of five is seven.
    context = await filled(store, user, *[("message", number, None) for number in range(8)], ("message", "aaaaa", None))
    for budget, expected in ((0, []), (6, []), (7, ["aaaaa"]), (9, [6, 7, "aaaaa"]), (99, [*range(8), "aaaaa"])):
        loaded_now = await store.load(context.key, max_chars=budget)
        assert [row.update.data for row in loaded_now.updates] == expected
        assert loaded_now.earlier == (len(expected) < 9)


async def test_the_first_that_does_not_fit_is_the_last_that_is_looked_at(store: Store, user: str) -> None:
    context = await filled(store, user, ("message", 1, None), ("message", "long one", None), ("message", 2, None))
    assert await chosen(store, context, max_chars=5) == [2]


async def test_types_are_chosen_and_kept(store: Store, user: str) -> None:
    entries = [("system", 0, None), *[(("message", "note")[number % 2], number, None) for number in range(1, 9)]]
    context = await filled(store, user, *entries)
    assert await chosen(store, context, types=["note"]) == [1, 3, 5, 7]
    assert await chosen(store, context, types=["note"], max_chars=2) == [5, 7]
    assert await chosen(store, context, types=["note"], history_limit=1) == [7]
    assert await chosen(store, context, max_chars=3, keep_types=["system"]) == [0, 7, 8]
    assert await chosen(store, context, types=["note"], max_chars=2, keep_types=["system"]) == [0, 7]
    # It comes even if nothing else does, and is paid for first.
    assert await chosen(store, context, max_chars=0, keep_types=["system"]) == [0]
    assert await chosen(store, context, types=[], max_chars=9) == []


async def test_a_group_stays_together(store: Store, user: str) -> None:
    context = await filled(
        store,
        user,
        ("call", 1, "g"),
        ("message", 2, None),
        ("call", 3, "h"),
        ("result", 4, "g"),
        ("result", 5, "h"),
        ("message", 6, None),
    )
    assert await chosen(store, context, max_chars=1) == [6]
    # One more would fit, and half of a group is not what anybody wants.
    assert await chosen(store, context, max_chars=2) == [6]
    assert await chosen(store, context, max_chars=3) == [3, 5, 6]
    assert await chosen(store, context, max_chars=4) == [3, 5, 6]
    assert await chosen(store, context, max_chars=5) == [1, 3, 4, 5, 6]
    assert await chosen(store, context, history_limit=2, max_chars=9) == [6]
    assert await chosen(store, context, keep_types=["call"], max_chars=0) == [1, 3, 4, 5]


async def test_groups_of_any_name_and_metadata_of_any_kind(store: Store, user: str) -> None:
    names: list[Any] = ["x" * 5_000, "\x00 ☃ 'q' \"", 7, ""]
    context = await loaded(store, user)
    for number, name in enumerate(names * 2):
        context.add_context_update("message", number, {"group": name, "more": {"group": "inner"}})
    context.add_context_update("message", 8, {"note": '"group"', "list": ["group"]})
    await context.save()
    assert await chosen(store, context, max_chars=1) == [8]
    assert await chosen(store, context, max_chars=3) == [3, 7, 8]
    assert await chosen(store, context, max_chars=9) == [*range(9)]


async def test_what_left_the_history_does_not_come(store: Store, user: str) -> None:
    context = await filled(store, user, ("call", 1, "g"), ("message", 2, None), ("result", 3, "g"))
    del context.context_history[0]
    await context.save()
    assert await chosen(store, context, max_chars=2) == [2, 3]


async def test_a_context_loads_what_fits_and_saves_only_what_is_new(store: Store, user: str) -> None:
    await filled(store, user, *[("message", number, None) for number in range(9)])
    context = TaskContext({"user_id": user, "chat_id": "c1"}, store=store)
    await context.load(max_chars=2, keep_types=[], types=["message"])
    assert [update.data for update in context.context_history] == [7, 8]
    assert not context.history_complete
    context.add_context_update("message", "new")
    del context.context_history[0]
    await context.save()
    assert [update.data async for update in context.earlier_updates()] == [6, 5, 4, 3, 2, 1, 0]
    await context.load()
    assert [update.data for update in context.context_history] == [0, 1, 2, 3, 4, 5, 6, 8, "new"]


@pytest.mark.parametrize("count", [1, 2_000])
async def test_the_rest_is_not_read(
    sql_store: SqlStore, user: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked of the database follows what fits, and not the history."""
    context = await filled(sql_store, user, *[("message", number, f"g{number // 2}") for number in range(count)])
    read: list[int] = []

    def noted(*row: Any) -> UpdateSize:
        read.append(row[0])
        return UpdateSize(*row)

    monkeypatch.setattr(window, "UpdateSize", noted)
    assert len(await chosen(sql_store, context, max_chars=40)) <= 40
    # A window of sizes, and the members of the groups in it.
    assert len(read) <= 250
