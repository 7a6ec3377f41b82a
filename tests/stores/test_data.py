"""The data of updates without the updates: of all, of some types, of the newest."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from taskctx_sql import ContextKey, SqlStore, open_store
from taskctx_sql.errors import CorruptRecordError, InvalidArgumentError
from taskctx_sql.sql.row_codec import context_id
from taskctx_sql.testing import new_delta

# Values that are read in another way than plain ones.
VALUES = [{"n": 1}, "text", {"at": date(2026, 1, 2)}, (1, "x\x00"), None]


async def test_data_comes_back_as_it_was_oldest_first(sql_store: SqlStore, user: str) -> None:
    key = ContextKey(user, "c1")
    assert await sql_store.data(key) == []
    kinds = ("message", "event", "message", "event", "message")
    await sql_store.write(key, updates=list(zip(kinds, VALUES, strict=True)))
    assert await sql_store.data(key) == VALUES
    assert await sql_store.data(key, types=["message"]) == [VALUES[0], VALUES[2], VALUES[4]]
    assert await sql_store.data(key, types=("message",), limit=2) == [VALUES[2], VALUES[4]]
    assert await sql_store.data(key, types=[]) == await sql_store.data(key, limit=0) == []
    await sql_store.write(key, remove_updates=[2])
    assert await sql_store.data(key, limit=4) == [VALUES[0], *VALUES[2:]]


@pytest.mark.parametrize("limit", [None, 4_001, 8_000, 10_000])
async def test_more_than_a_page_is_read(sql_store: SqlStore, user: str, limit: int | None) -> None:
    key = ContextKey(user, "c1")
    await sql_store.write(key, updates=[("message", number) for number in range(8_001)])
    expected = list(range(8_001))
    assert await sql_store.data(key, limit=limit) == (expected if limit is None else expected[-limit:])


async def test_damage_names_its_row_and_a_wrong_limit_is_refused(
    sql_store: SqlStore, engine: AsyncEngine, user: str
) -> None:
    key = ContextKey(user, "c1")
    await sql_store.write(key, updates=[("message", 1), ("message", 2)])
    async with engine.begin() as connection:
        damage = sa.text("UPDATE taskctx_updates SET data = '{' WHERE context_id = :context AND seq = 2")
        await connection.execute(damage, {"context": context_id(key)})
    with pytest.raises(CorruptRecordError, match="seq 2"):
        await sql_store.data(key)
    with pytest.raises(InvalidArgumentError):
        await sql_store.data(key, limit=-1)


async def test_a_folder_of_files_has_it_too(tmp_path: Path) -> None:
    async with open_store(f"json:///{tmp_path}/files") as store:
        key = ContextKey("u1", "c1")
        await store.save(new_delta(key, "a", "b", "c"))
        assert await store.data(key, limit=2) == ["b", "c"]
        assert await store.data(key, types=["other"]) == []
