"""What the errors of the SQL store name, and what they do not show."""

from __future__ import annotations

import traceback

import pytest
import sqlalchemy as sa

from taskctx_sql import ContextKey, SqlStore, open_store
from taskctx_sql.errors import CorruptRecordError, LostContextError, StoreFailedError, StoreUnavailableError
from taskctx_sql.sql import engines, row_codec
from taskctx_sql.sql.backends import Backend, Share
from tests.support.contract import expect_reload, loaded, new_delta, new_run, stored


@pytest.fixture
async def store(sql_store: SqlStore) -> SqlStore:
    """A store on an engine that the test can listen to, of each database in turn."""
    return sql_store


async def test_an_error_of_the_engine_does_not_show_what_was_to_be_written(store: SqlStore, user: str) -> None:
    secret = " ".join(["a", "secret", "text"])
    async with store._backend.engine.begin() as connection:
        await connection.exec_driver_sql("ALTER TABLE taskctx_updates RENAME TO elsewhere")
    try:
        with pytest.raises(StoreFailedError) as caught:
            await store.save(new_delta(ContextKey(user, "c"), secret))
        assert secret not in "".join(traceback.format_exception(caught.value))
        assert "taskctx_updates" in str(caught.value)
        assert caught.value.__cause__ is not None
    finally:
        async with store._backend.engine.begin() as connection:
            await connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO taskctx_updates")
    assert await stored(store, ContextKey(user, "c")) == []


@pytest.mark.parametrize(
    ("table", "column", "where"),
    [
        ("updates", "exact", "update seq 1"),
        ("files", "exact", "file 'a'"),
        ("models", "exact", "model use seq 1"),
        ("contexts", "metadata", "metadata"),
        ("contexts", "metadata_toggles", "metadata_toggles"),
    ],
)
async def test_the_error_names_a_row_that_cannot_be_read(
    store: SqlStore, user: str, table: str, column: str, where: str
) -> None:
    context = await loaded(store, user)
    context.track_file_operation("a", "read")
    context.track_model_usage("m", "p", "x")
    await context.save()
    context_id = row_codec.context_id(context.key)
    async with store._backend.engine.begin() as connection:
        statement = sa.text(f"UPDATE taskctx_{table} SET {column} = '{{broken' WHERE context_id = :id")
        await connection.execute(statement, {"id": context_id})
    with pytest.raises(CorruptRecordError) as caught:
        await store.load(context.key)
    assert caught.value.where == where
    other = await loaded(store, user, "another chat")
    assert other.context_history == []


@pytest.mark.parametrize("column", ["data", "metadata"])
@pytest.mark.parametrize("text", ["{broken", '{"__set__": 1}', "1\x1f2", ""])
async def test_the_error_names_an_update_that_cannot_be_read_on_access(
    store: SqlStore, user: str, column: str, text: str
) -> None:
    context = await loaded(store, user)
    for number in range(3):
        context.add_context_update("message", number)
    await context.save()
    async with store._backend.engine.begin() as connection:
        statement = sa.text(f"UPDATE taskctx_updates SET {column} = :text WHERE context_id = :id AND seq = 2")
        await connection.execute(statement, {"id": row_codec.context_id(context.key), "text": text})
    again = await loaded(store, user)
    for attempt in (lambda: again.context_history[1].data, lambda: again.context_history[1].metadata, again.to_dict):
        with pytest.raises(CorruptRecordError) as caught:
            attempt()
        assert caught.value.where == "update seq 2"
    assert [again.context_history[0].data, again.context_history[2].data] == [0, 2]
    again.context_history[1].data = "mended"
    again.context_history[1].metadata = {}
    await again.save()
    await expect_reload(store, again)


async def test_a_run_counter_that_went_back_is_an_error_and_writes_nothing(store: SqlStore, user: str) -> None:
    key = ContextKey(user, "c")
    run = new_run()
    first = await store.save(new_delta(key, "a", run=run))
    # The second save is gone: the database was set back to an older copy.
    third = run.next_save().next_save()
    with pytest.raises(LostContextError):
        await store.save(new_delta(key, "c", run=third, base=first.base._replace(revision=2)))
    assert await stored(store, key) == ["a"]


async def test_a_password_is_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    url = "postgresql://me:hidden@127.0.0.1:1/none?password=hidden"
    with pytest.raises(StoreUnavailableError) as caught:
        await open_store(url, retry_seconds=0.1)
    store = SqlStore(Share(Backend(engines.create_engine(engines.parse_url(url)), None, 0)))
    for text in (str(caught.value), repr(caught.value), repr(store), store.database_url, caplog.text):
        assert "hidden" not in text
    await store.close()
