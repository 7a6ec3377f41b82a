"""Erasing all data of a user, or one context, from every table."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from taskctx_sql import JsonStore, SqlStore, Store
from taskctx_sql.errors import ContextNotFoundError, InvalidArgumentError, LostContextError
from taskctx_sql.maintenance import erase, prune
from taskctx_sql.model import Retention
from taskctx_sql.sql.schema import tables
from tests.maintenance.contexts import DAY, NOW, chats, saved
from tests.support.contract import loaded, stored
from tests.support.rows import everything, rows_of


@pytest.mark.parametrize("goes_on", ["save", "open", "fork", "prune", "erase", "delete"])
async def test_an_erasing_that_breaks_off_leaves_nothing_to_see_and_room_for_a_new_context(
    database: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch, goes_on: str
) -> None:
    other = await loaded(database, user, "other")
    other.add_context_update("message", "other")
    await other.save()
    context = await loaded(database, user, "c")
    for number in range(60):
        context.add_context_update("message", number)
        context.track_file_operation(f"f{number}", "read")
    context.metadata["secret"] = "gone"
    await context.save()
    write = SqlStore.write_plan
    writes = 0

    async def failing(store: SqlStore, doing: str, steps: Any, **more: Any) -> Any:
        nonlocal writes
        writes += 1
        if writes == 4:
            raise KeyboardInterrupt
        return await write(store, doing, steps, **more)

    with monkeypatch.context() as patched:
        patched.setattr(SqlStore, "write_plan", failing)
        with pytest.raises(KeyboardInterrupt):
            await erase(database, user, "c", batch=10)
    key = context.key
    assert (await database.load(key)).revision == 0
    assert await chats(database, user) == {"other"}
    for refused in (database.revisions(key), database.load(key, revision=1), database.difference(key, 1, 1)):
        with pytest.raises(ContextNotFoundError):
            await refused
    with pytest.raises(ContextNotFoundError):
        await database.fork(key, "d")
    assert [row async for row in database.updates(key)] == []
    if goes_on == "open":
        # A program that still has it.
        context.add_context_update("message", "late")
        with pytest.raises(LostContextError):
            await context.save()
    elif goes_on == "fork":
        await other.fork("c")
        assert await stored(database, key) == ["other"]
    elif goes_on == "save":
        fresh = await loaded(database, user, "c")
        fresh.add_context_update("message", "new")
        fresh.track_file_operation("f1", "write")
        await fresh.save()
        found = await loaded(database, user, "c")
        assert found.revision == 1
        assert list(found.file_tracker) == ["f1"]
        assert found.metadata == {}
        assert found.context_history[0].data == "new"
        assert len(await rows_of(database, tables.updates, user)) == 3
    elif goes_on == "delete":
        assert not await database.delete(key)
    elif goes_on == "prune":
        await prune(database, Retention(max_age=DAY), user_id=user)
    else:
        await erase(database, user, "c")
    if goes_on in ("prune", "erase", "delete"):
        assert len(await rows_of(database, tables.contexts, user)) == 1
        assert len(await rows_of(database, tables.updates, user)) == 1


async def test_a_user_is_erased_from_every_table_with_a_receipt(database: SqlStore, user: str) -> None:
    for chat in ("a", "b"):
        await saved(database, user, chat, at=NOW)
    await saved(database, f"{user}-other", "a", at=NOW)
    context = await loaded(database, user, "a")
    receipt = await erase(database, user, batch=2)
    assert set(receipt.chats) == {"a", "b"}
    assert (receipt.user_id, receipt.chat_id, receipt.rows["taskctx_updates"]) == (user, None, 6)
    assert not any((await everything(database, user)).values())
    assert len(await rows_of(database, tables.updates, f"{user}-other")) == 3
    found = await database.query(sa.select(tables.updates).where(tables.updates.c.run_id == context.key.user_id))
    assert not found
    context.add_context_update("message", "late")
    with pytest.raises(LostContextError):
        await context.save()
    assert (await erase(database, user)).chats == ()


async def test_one_context_is_erased(store: Store, user: str) -> None:
    for chat in ("a", "b"):
        await saved(store, user, chat, at=NOW)
    if isinstance(store, JsonStore):
        (store.folder / "context_history_a.json.unreadable-1").write_text("broken")
    receipt = await erase(store, user, "a")
    assert receipt.chats == ("a",)
    assert await chats(store, user) == {"b"}
    if isinstance(store, JsonStore):
        assert receipt.rows["files"] == 2
        assert [path.name for path in store.folder.iterdir()] == ["context_history_b.json"]
        with pytest.raises(InvalidArgumentError, match="chat_id=None"):
            await erase(store, user)
    assert (await erase(store, user, "nobody")).chats == ()
