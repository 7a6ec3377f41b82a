"""A store that is pruned periodically while it is open."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from taskctx_sql import SqlStore, Store, blocking, open_store
from taskctx_sql.errors import InvalidArgumentError, StoreFailedError
from taskctx_sql.maintenance import prune_periodically
from taskctx_sql.model import Retention
from taskctx_sql.settings import PRODUCTION_CONFIG
from tests.maintenance.contexts import DAY, chats, saved
from tests.support.waiting import until


async def test_a_store_is_pruned_periodically_while_it_is_open(store: Store, user: str) -> None:
    async def is_empty() -> bool:
        return not await chats(store, user)

    for chat in ("c0", "c1", "c2"):
        await saved(store, user, chat, at=time.time() - 10 * DAY)
    async with prune_periodically(store, Retention(max_age=9 * DAY), interval=0.01):
        await until(is_empty)
        await saved(store, user, "again", at=time.time() - 10 * DAY)
        await until(is_empty)
    assert await chats(store, user) == set()
    await saved(store, user, "later", at=time.time() - 10 * DAY)
    await asyncio.sleep(0.05)
    assert await chats(store, user) == {"later"}


async def test_a_failed_prune_is_logged_and_repeated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(f"sqlite:///{tmp_path}/x.db") as store:
        await saved(store, "u", "c", at=time.time() - DAY)
        read = SqlStore.read
        failures = 0

        async def failing(self: SqlStore, doing: str, steps: Any, **more: Any) -> Any:
            nonlocal failures
            failures += 1
            if failures == 1:
                raise StoreFailedError("list", self.database_url, "made for this test")
            return await read(self, doing, steps, **more)

        monkeypatch.setattr(SqlStore, "read", failing)
        with caplog.at_level(logging.ERROR, "taskctx_sql"):
            async with prune_periodically(store, Retention(max_age=0), interval=0.01):
                with closing(sqlite3.connect(tmp_path / "x.db")) as reader:
                    await until(lambda: reader.execute("SELECT count(*) FROM taskctx_contexts").fetchone() == (0,))
        assert "made for this test" in caplog.text
        assert await chats(store, "u") == set()


async def test_a_store_with_a_retention_prunes_itself(address: str, user: str) -> None:
    async with open_store(address) as store:
        await saved(store, user, "c", at=time.time() - 10_000 * DAY)
    # So old that nothing else in a shared database is.
    async with open_store(address, retention=Retention(max_age=9_000 * DAY), cleanup_interval=0.01) as store:

        async def is_empty() -> bool:
            return not await chats(store, user)

        await until(is_empty)
    with pytest.raises(InvalidArgumentError, match="entered with"):
        await open_store(address, retention=Retention(max_age=1))
    with pytest.raises(InvalidArgumentError, match="cleanup_interval=0"):
        open_store(address, retention=Retention(max_age=1), cleanup_interval=0)


def test_a_store_is_pruned_periodically_from_sync_code(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    with open_store(url) as store:
        blocking(saved(store, "u", "c", at=time.time() - 10 * DAY))
    with open_store(url, retention=Retention(max_age=DAY), cleanup_interval=60) as store:

        async def is_empty() -> bool:
            return not await chats(store, "u")

        blocking(until(is_empty))


def test_a_retention_says_what_is_wrong_with_it() -> None:
    assert Retention.of_preset(PRODUCTION_CONFIG) == Retention(max_contexts=100)
    with pytest.raises(InvalidArgumentError, match="at least one limit"):
        Retention()
    with pytest.raises(InvalidArgumentError, match="max_age=-1"):
        Retention(max_age=-1)


async def test_a_cancellation_while_periodic_pruning_ends_is_raised(database: SqlStore) -> None:
    async def keep() -> None:
        async with prune_periodically(database, Retention(max_age=1), interval=1000):
            await asyncio.sleep(0)

    task = asyncio.create_task(keep())
    # By then the block is through, and a batch is still under way.
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
