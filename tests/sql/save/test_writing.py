"""What is written without loading, as rows: kinds of tokens in columns, appends by one statement."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
import sqlalchemy as sa

from taskctx_sql import ContextKey, ContextWriter, Run, SqlStore, Store, TaskContext, Write, open_store
from taskctx_sql.errors import UnsupportedByStoreError
from taskctx_sql.json_files import JsonStore
from taskctx_sql.model import TOKEN_KINDS, Delta, StateChange
from taskctx_sql.sql import row_codec
from taskctx_sql.sql.save import SaveRequest
from taskctx_sql.sql.schema import tables
from tests.support.contract import new_delta


async def test_all_kinds_of_tokens_come_back_from_columns_alone(sql_store: SqlStore, user: str) -> None:
    key = ContextKey(user, "c")
    context = TaskContext({"user_id": user, "chat_id": "c"}, store=sql_store)
    tokens: dict[str, Any] = {kind: count for count, kind in enumerate(TOKEN_KINDS, 1)}
    context.track_model_usage("m", "p", "chat", **tokens, cost=0.5, duration=2.0)
    await context.save()
    # In another order, and with a list of prices.
    given = dict(reversed(tokens.items())) | {"duration": 1.0, "price_list": "prices 1", "model_id": "m", "cost": 0.25}
    await sql_store.write(key, models=[given])
    again = TaskContext({"user_id": user, "chat_id": "c"}, store=sql_store)
    await again.load()
    assert again.model_tracker[0] == context.model_tracker[0]
    assert list(again.model_tracker[0]) == list(context.model_tracker[0])
    assert {name: again.model_tracker[1][name] for name in given} == given
    rows = await sql_store.query(
        sa.select(tables.models).where(tables.models.c.context_id == row_codec.context_id(key)), user_id=user
    )
    assert [row.exact for row in rows] == [None, None]
    assert [row.audio_tokens for row in rows] == [6, 6]


async def test_a_write_that_only_appends_is_one_statement_on_sqlite(sql_store: SqlStore, user: str) -> None:
    key = ContextKey(user, "c")
    base: Any = None
    for number in range(1, 4):
        write = Write(key, updates=[("message", number)], run=Run("run", number, 1.0))
        if number == 3:
            # What others wrote is not news to a writer without memory.
            await sql_store.write(key, updates=[("message", "of another")])
        delta = write.delta(base)
        request = await SaveRequest.of(delta, strict=False)
        assert request.only_appends
        base = (await sql_store.save(delta)).base
    assert (base.revision, base.newest, base.numbers) == (4, 4, (5, 1, 1))


async def test_a_folder_of_files_refuses_what_it_does_not_keep(tmp_path: Any, user: str) -> None:
    store: Store = JsonStore(tmp_path)
    for more in ({"state": [StateChange("a", 1)]}, {"if_revision": 0}):
        with pytest.raises(UnsupportedByStoreError):
            await store.save(new_delta(ContextKey(user, "c"), "a", **more))
    assert list(tmp_path.iterdir()) == []
    await store.close()


async def test_one_write_of_write_together_shares_a_transaction_with_other_saves(postgres_url: str, user: str) -> None:
    async with open_store(postgres_url) as store:
        assert isinstance(store, SqlStore)
        keys = [ContextKey(user, str(number)) for number in range(20)]
        await asyncio.gather(*(store.write_together([Write(key, labels={"a": "b"})]) for key in keys))
        transactions: sa.Select[Any] = (
            sa.select(sa.literal_column("xmin::text")).select_from(tables.contexts).distinct()
        )
        rows = await store.query(transactions.where(tables.contexts.c.user_id == user), user_id=user)
    assert len(rows) < 10


async def test_what_was_saved_is_free_without_the_garbage_collector(sql_store: SqlStore, user: str) -> None:
    writer = ContextWriter(sql_store, ContextKey(user, "c"))
    context = TaskContext({"user_id": user, "chat_id": "loaded"}, store=sql_store)
    gc.collect()
    gc.disable()
    try:
        for number in range(3):
            await writer.write(updates=[("message", number)], state={"number": number})
            await sql_store.write_together([Write(ContextKey(user, name), state={"number": number}) for name in "ab"])
            context.add_context_update("message", number)
            await context.save()
        left = [found for found in gc.get_objects() if isinstance(found, Delta | SaveRequest)]
    finally:
        gc.enable()
    assert left == []
