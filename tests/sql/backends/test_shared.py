"""Stores that are opened alike in one loop share what they open, and what one of them does is no other's matter."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from taskctx_sql import ContextKey, SqlStore, blocking, open_store, schema, task_context
from taskctx_sql.errors import (
    InvalidDatabaseUrlError,
    StoreClosedError,
    StoreError,
    StoreFailedError,
    StoreUnavailableError,
)
from taskctx_sql.sql.backends import shared
from tests.support.contract import loaded, new_delta, stored

MANY = 40


async def _open(address: str, **options: object) -> SqlStore:
    store = await open_store(address, **options)  # type: ignore[arg-type]  # each test gives its own
    assert isinstance(store, SqlStore)
    return store


def _writers() -> int:
    return sum(thread.name == "taskctx-writer" for thread in threading.enumerate())


async def _connections(store: SqlStore) -> int:
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type LIKE 'client%'"
    ((found,),) = await store.query(sa.select(sa.literal_column(f"({count})", sa.Integer)))
    return int(found)


async def test_many_contexts_by_one_address_have_few_connections(database_url: str, user: str) -> None:
    await schema.upgrade(database_url)
    seen: list[int] = []

    async def request(number: int) -> None:
        async with task_context({"user_id": user, "chat_id": f"c{number}"}, database_url=database_url) as context:
            context.add_context_update("message", number)
            await context.save()
            async with open_store(database_url) as store:
                assert isinstance(store, SqlStore)
                seen.append(_writers() if store.engine_name == "sqlite" else await _connections(store))
            context.add_context_update("message", "the last")

    await asyncio.gather(*(request(number) for number in range(MANY)))
    # One thread that saves; or the connections of one pool, and of one before that the server has not let go of yet.
    assert max(seen) <= (1 if database_url.startswith("sqlite") else 42)
    async with open_store(database_url) as store:
        for number in range(MANY):
            assert await stored(store, ContextKey(user, f"c{number}")) == [number, "the last"]
    assert not shared._open


async def test_who_closes_closes_for_himself(database_url: str, user: str) -> None:
    await schema.upgrade(database_url)
    stores = [await _open(database_url) for _ in range(3)]
    assert len({id(store._backend.engine) for store in stores}) == 1
    for number, store in enumerate(stores):
        saves = [asyncio.create_task(one.save(new_delta(ContextKey(user, f"{number}-{n}"), n)))
                 for n, one in enumerate(stores[number:])]  # fmt: skip
        await asyncio.sleep(0)
        await asyncio.gather(store.close(), store.close())
        assert all(not isinstance(answer, BaseException) for answer in await asyncio.gather(*saves))
        with pytest.raises(StoreClosedError):
            await store.load(ContextKey(user, "c"))
    assert not shared._open


async def test_what_is_opened_otherwise_is_not_shared(database_url: str) -> None:
    await schema.upgrade(database_url)
    stores = [
        await _open(database_url),
        await _open(database_url, strict=True),
        await _open(database_url, retry_seconds=3),
        await _open(database_url, transaction_pooling=True),
    ]
    assert len({id(store._backend.engine) for store in stores}) == 4
    for store in stores:
        await store.close()


async def test_a_database_in_memory_is_never_shared(user: str) -> None:
    async with open_store("sqlite://") as one, open_store("sqlite://") as other:
        context = await loaded(one, user)
        context.add_context_update("message", "x")
        await context.save()
        assert await stored(other, context.key) == []


async def test_a_file_that_took_the_others_name_is_opened_anew(tmp_path: Path, user: str) -> None:
    address, key = f"sqlite:///{tmp_path}/x.db", ContextKey(user, "c")
    async with open_store(address) as old:
        await old.save(new_delta(key, "old"))
        (tmp_path / "x.db").rename(tmp_path / "y.db")
        async with open_store(address) as new:
            await new.save(new_delta(key, "new"))
            assert await stored(new, key) == ["new"]
            with pytest.raises(StoreFailedError, match="removed or replaced"):
                await old.save(new_delta(ContextKey(user, "d"), "x"))


async def test_another_loop_opens_for_itself(database_url: str, user: str) -> None:
    await schema.upgrade(database_url)
    key = ContextKey(user, "elsewhere")

    async def elsewhere() -> None:
        async with open_store(database_url) as store:
            await store.save(new_delta(key, "x"))

    async with open_store(database_url) as store:
        await asyncio.to_thread(asyncio.run, elsewhere())
        await asyncio.to_thread(lambda: blocking(elsewhere_again()))
        assert await stored(store, key) == ["x"]


async def elsewhere_again() -> None:
    """Nothing is open on the library's own loop, so there is nothing to find."""
    assert not any(asyncio.get_running_loop() in key for key in shared._open if isinstance(key, tuple))


def _save_in_child(address: str, user: str) -> None:
    async def save() -> None:
        async with open_store(address) as store:
            await store.save(new_delta(ContextKey(user, "child"), "x"))

    asyncio.run(save())


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
async def test_a_forked_child_opens_for_itself(tmp_path: Path, user: str) -> None:
    address = f"sqlite:///{tmp_path}/x.db"
    async with open_store(address) as store:
        await store.save(new_delta(ContextKey(user, "parent"), "x"))
        child = multiprocessing.get_context("fork").Process(target=_save_in_child, args=(address, user))
        child.start()
        await asyncio.to_thread(child.join)
        assert child.exitcode == 0
        assert await stored(store, ContextKey(user, "child")) == ["x"]
        await store.save(new_delta(ContextKey(user, "later"), "x"))


@pytest.mark.parametrize("others", [0, 1])
async def test_an_opening_that_is_cancelled_releases_its_share(database_url: str, user: str, others: int) -> None:
    await schema.upgrade(database_url)
    open_already = [await _open(database_url) for _ in range(others)]
    for steps in range(0, 40, 3):
        opening = asyncio.create_task(_open(database_url))
        for _ in range(steps):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait([opening])
        if not opening.cancelled():
            await opening.result().close()
        assert len(shared._open) == others
    for store in open_already:
        await store.save(new_delta(ContextKey(user, "c"), "x"))
        await store.close()
    assert not shared._open


async def test_an_opening_that_fails_releases_its_share(postgres_url: str, tmp_path: Path) -> None:
    (tmp_path / "strange.db").write_text("no database, and long enough to be seen as none" * 100)
    addresses = [f"sqlite:///{tmp_path}/strange.db", f"sqlite:///{tmp_path}/no/folder.db"]
    addresses.append("postgresql://u@127.0.0.1:1/x")
    for address in addresses:
        failed = await asyncio.gather(*(_open(address, retry_seconds=0) for _ in range(3)), return_exceptions=True)
        assert all(isinstance(error, StoreError) for error in failed), failed
        assert not shared._open
    with pytest.raises(InvalidDatabaseUrlError):
        await open_store(postgres_url, read_url=addresses[0])
    assert not shared._open


async def test_a_store_that_nobody_closed_takes_nothing_from_the_others(tmp_path: Path, user: str) -> None:
    address = f"sqlite:///{tmp_path}/x.db"
    async with open_store(address) as store:
        forgotten = await _open(address)
        await forgotten.save(new_delta(ContextKey(user, "a"), "x"))
        kept = [forgotten]
        del forgotten
        with pytest.warns(ResourceWarning, match="never closed"):
            kept.clear()
        gc.collect()
        await store.save(new_delta(ContextKey(user, "b"), "x"))
        assert _writers() == 1
    assert not shared._open


@contextmanager
def _files_left(number: int) -> Iterator[None]:
    """Let no more files than so many be opened, of those that are there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Path("/dev/null").open() as newest:
        resource.setrlimit(resource.RLIMIT_NOFILE, (newest.fileno() + number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("left", [0, 1])
async def test_too_many_open_files_raise_an_error_that_says_so(tmp_path: Path, left: int) -> None:
    await schema.upgrade(f"sqlite:///{tmp_path}/x.db")
    for name in ("x.db", "new.db"):
        with _files_left(left), pytest.raises(StoreUnavailableError, match="too many open files") as caught:
            await open_store(f"sqlite:///{tmp_path}/{name}", retry_seconds=0.2)
        assert "folder" not in str(caught.value)


async def test_who_may_open_no_more_files_waits_for_some(tmp_path: Path, user: str) -> None:
    address = f"sqlite:///{tmp_path}/x.db"
    await schema.upgrade(address)
    with _files_left(0):
        opening = asyncio.create_task(_open(address))
        await asyncio.sleep(0.2)
        assert not opening.done()
    store = await opening
    await store.save(new_delta(ContextKey(user, "c"), "x"))
    await store.close()
