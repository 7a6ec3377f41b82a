"""One address, one store."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from taskctx_sql import ContextKey, JsonStore, SqlStore, TaskContext, blocking, open_store, schema
from taskctx_sql.errors import (
    InvalidArgumentError,
    InvalidDatabaseUrlError,
    MissingDriverError,
    StoreFailedError,
    StoreNotOpenedError,
)
from taskctx_sql.locations import json_folder
from taskctx_sql.model import Retention
from taskctx_sql.sql import engines
from tests.support.contract import new_delta, stored


def test_a_json_address_names_a_folder_as_sqlite_names_a_file() -> None:
    assert json_folder("json:///tasks") == Path("tasks")
    assert json_folder("json:////var/lib/tasks") == Path("/var/lib/tasks")
    assert json_folder("json:///with%20space") == Path("with space")


@pytest.mark.parametrize(
    "address",
    [
        "", "tasks.db", "mysql://x/y", "sqlite", "json:", "json://host/folder", "json:///", "postgresql+psycopg2://x/y",
        "http://x", "sqlite+pysqlite:///x.db",
    ],
)  # fmt: skip
async def test_an_address_that_is_not_understood_shows_what_is(address: str) -> None:
    with pytest.raises(
        InvalidDatabaseUrlError, match=r"Use sqlite:///tasks\.db, postgresql://user@host/database or json:"
    ):
        await open_store(address)


@pytest.mark.parametrize("address", ["mysql://me:hidden@x/y", "no url me:hidden@x"])
async def test_a_wrong_address_does_not_show_its_password(address: str) -> None:
    with pytest.raises(InvalidDatabaseUrlError) as caught:
        await open_store(address)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_postgres_addresses_are_taken_as_people_write_them(scheme: str) -> None:
    url = engines.parse_url(f"{scheme}://me:pw@host:5433/db?sslmode=require&host=/socket")
    assert url.drivername == "postgresql+asyncpg"
    assert dict(url.query) == {"sslmode": "require", "host": "/socket"}
    assert engines.mask(str(url)).startswith("postgresql://me:***@host:5433/db")


async def test_awaiting_leaves_the_closing_to_the_caller(tmp_path: Path) -> None:
    store = await open_store(f"sqlite:///{tmp_path}/x.db")
    assert isinstance(store, SqlStore)
    assert list(await store.contexts("u")) == []
    await store.close()


async def test_a_store_is_closed_when_the_body_fails(address: str) -> None:
    with pytest.raises(KeyError):
        async with open_store(address) as store:
            raise KeyError
    with pytest.raises(Exception, match="is closed: open it again"):
        await store.contexts("u")


def test_a_store_opens_and_closes_in_a_plain_with(address: str, kind: str) -> None:
    with open_store(address) as store:
        assert isinstance(store, JsonStore if kind == "json" else SqlStore)
        assert list(blocking(store.contexts("nobody"))) == []
    with pytest.raises(Exception, match="is closed"):
        blocking(store.contexts("nobody"))


async def test_a_missing_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("asyncpg", "psycopg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDriverError, match=r"pip install 'taskctx_sql\[postgres\]'"):
        await open_store("postgresql://me@localhost/db")


@pytest.mark.parametrize("part", ["", "-journal", "-wal", "-shm"])
async def test_what_is_no_file_beside_a_database_is_named_and_not_waited_for(tmp_path: Path, part: str) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    if part:
        await schema.upgrade(url)
    os.mkfifo(tmp_path / f"x.db{part}")
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: SqlStore.open(url), lambda: schema.upgrade(url), lambda: schema.current(url)
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(StoreFailedError, match=f"{part}.*it is a FIFO, and not a file"):
            await call()


STRANGE_TIMES = [-1, float("nan"), "5", None, True, 10**400]


@pytest.mark.parametrize("seconds", STRANGE_TIMES)
async def test_a_time_that_cannot_be_waited_for_is_refused(tmp_path: Path, postgres_url: str, seconds: Any) -> None:
    for address in (f"sqlite:///{tmp_path}/x.db", f"json:///{tmp_path}", postgres_url):
        if seconds is not None:
            with pytest.raises(InvalidArgumentError, match="retry_seconds"):
                await open_store(address, retry_seconds=seconds)
        with pytest.raises(InvalidArgumentError, match="interval"):
            open_store(address, retention=Retention(max_age=1), cleanup_interval=seconds)
    for limit in ("max_age", "max_contexts", "removed_age"):
        if seconds is not None:
            with pytest.raises(InvalidArgumentError, match=limit):
                Retention(**{limit: seconds})


@pytest.mark.parametrize("seconds", [1e12, float("inf")])
async def test_a_store_may_be_tried_again_for_ever(database_url: str, user: str, seconds: float) -> None:
    async with open_store(database_url, retry_seconds=seconds) as store:
        await store.save(new_delta(ContextKey(user, "c"), "x"))
        assert await stored(store, ContextKey(user, "c")) == ["x"]


def test_a_store_that_was_not_opened_says_so() -> None:
    store = open_store("sqlite:///x.db")
    with pytest.raises(StoreNotOpenedError, match=r"async with open_store"):
        store.load  # type: ignore[attr-defined]  # noqa: B018  # as a program without types would
    assert not hasattr(store, "reports")


async def test_a_context_on_a_store_that_was_not_opened_says_so() -> None:
    store: Any = open_store("sqlite:///x.db")
    with pytest.raises(StoreNotOpenedError):
        await TaskContext({}, store=store).load()
