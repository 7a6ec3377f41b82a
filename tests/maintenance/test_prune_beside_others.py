"""Pruning beside writers and readers: what is used stays, and nobody sees half of a context."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from taskctx_sql import ContextKey, JsonStore, SqlStore
from taskctx_sql.errors import ContextNotFoundError
from taskctx_sql.maintenance import erase, prune
from taskctx_sql.model import Retention
from tests.maintenance.contexts import DAY, NOW, chats, saved
from tests.support.contract import loaded, stored


async def test_a_context_that_is_saved_to_meanwhile_stays(
    database: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = await saved(database, user, "c", at=NOW - DAY, count=50)
    write = SqlStore.write_plan
    writes = 0

    async def overtaken(store: SqlStore, doing: str, steps: Any, **more: Any) -> Any:
        nonlocal writes
        writes += 1
        if writes == 2:
            # Until it is hidden, all of it stays.
            await saved(store, user, "c", at=NOW, count=1, base=base)
        return await write(store, doing, steps, **more)

    monkeypatch.setattr(SqlStore, "write_plan", overtaken)
    done = await prune(database, Retention(max_age=1), user_id=user, now=NOW, batch=10)
    assert (done.in_use, done.by_age) == (1, 0)
    assert len(await stored(database, ContextKey(user, "c"))) == 51


async def test_nobody_sees_half_of_a_context_that_is_being_removed(
    database: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = await saved(database, user, "c", at=NOW, count=50)
    await saved(database, user, "c", at=NOW + 1, count=1, base=base)
    key = ContextKey(user, "c")
    write = SqlStore.write_plan
    seen = []

    async def looked_at(store: SqlStore, doing: str, steps: Any, **more: Any) -> Any:
        answer = await write(store, doing, steps, **more)
        seen.append(len(await stored(store, key)))
        with contextlib.suppress(ContextNotFoundError):
            seen.append(len((await store.load(key, revision=2)).updates))
        assert (await chats(store, user) == {"c"}) == (seen[-1] == 51)
        return answer

    monkeypatch.setattr(SqlStore, "write_plan", looked_at)
    await prune(database, Retention(max_age=1), user_id=user, now=NOW + DAY, batch=10)
    assert len(seen) > 6
    assert set(seen) == {51, 0}
    assert sorted(seen, reverse=True) == seen


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("made_anew", [False, True])
async def test_reading_page_by_page_never_goes_on_in_half_a_context_or_in_another_one(
    database: SqlStore, user: str, monkeypatch: pytest.MonkeyPatch, made_anew: bool, newest_first: bool
) -> None:
    context = await loaded(database, user, "c")
    for number in range(1200):
        context.add_context_update("message", number)
    await context.save()
    reading = database.updates(context.key, newest_first=newest_first)
    assert (await anext(reading)).update.data == (1199 if newest_first else 0)
    write = SqlStore.write_plan
    writes = 0

    async def failing(store: SqlStore, doing: str, steps: Any, **more: Any) -> Any:
        nonlocal writes
        writes += 1
        if writes == 4:
            raise KeyboardInterrupt
        return await write(store, doing, steps, **more)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(SqlStore, "write_plan", failing)
        await erase(database, user, "c", batch=100)
    if made_anew:
        other = await loaded(database, user, "c")
        for _ in range(1200):
            other.add_context_update("message", "another")
        await other.save()
    seen = []
    with pytest.raises(ContextNotFoundError):
        async for row in reading:
            seen.append(row.update.data)
    assert len(seen) == 499
    assert "another" not in seen


@pytest.mark.wide
async def test_writers_get_their_turn_while_much_is_removed(database: SqlStore, user: str) -> None:
    for number in range(4):
        await saved(database, user, f"old{number}", at=NOW, count=3_000)
    job = asyncio.create_task(prune(database, Retention(max_age=0), user_id=user, now=NOW + DAY, batch=500))
    saves, base = 0, None
    while not job.done():
        base = await saved(database, user, "new", at=NOW + 2 * DAY, count=1, base=base)
        saves += 1
    done = await job
    assert done.by_age == 4
    assert saves > 10
    assert len(await stored(database, ContextKey(user, "new"))) == saves


async def test_a_file_that_is_saved_to_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from taskctx_sql.json_files import remove
    from taskctx_sql.locations import folders

    store = JsonStore(tmp_path / "tasks")
    await saved(store, "u", "c", at=NOW - DAY)
    lock = folders.folder_lock

    def late(folder: Path, *more: Any) -> Any:
        os.utime(folder / "context_history_c.json", (NOW, NOW))
        return lock(folder, *more)

    monkeypatch.setattr(remove, "folder_lock", late)
    assert (await prune(store, Retention(max_age=1), now=NOW)).in_use == 1
    assert await chats(store, "u") == {"c"}


async def test_a_file_that_is_gone_meanwhile_ends_no_pruning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from taskctx_sql.json_files import remove
    from taskctx_sql.locations import folders

    store = JsonStore(tmp_path / "tasks")
    for chat in ("a", "b", "c"):
        await saved(store, "u", chat, at=NOW - DAY)
    lock = folders.folder_lock

    def late(folder: Path, *more: Any) -> Any:
        (folder / "context_history_b.json").unlink(missing_ok=True)
        return lock(folder, *more)

    monkeypatch.setattr(remove, "folder_lock", late)
    done = await prune(store, Retention(max_age=1), now=NOW)
    assert (done.by_age, done.in_use) == (2, 1)
    assert await chats(store, "u") == set()
