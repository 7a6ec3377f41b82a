"""Addresses as people get them wrong: nothing secret is shown, and what is wrong is named."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from taskctx_sql import ContextKey, JsonStore, SqlStore, TaskContext, open_store, schema
from taskctx_sql.context import MemoryContext
from taskctx_sql.errors import AsyncioNeededError, InvalidDatabaseUrlError, UnsupportedEncodingError
from taskctx_sql.health import diagnose_history_loading_issue
from taskctx_sql.locations import file_address, json_address, json_folder, missing_file
from taskctx_sql.maintenance import examine
from taskctx_sql.sql import engines
from taskctx_sql.transfer import copy
from tests.support.waiting import SOON


@pytest.mark.parametrize("folder", ["/tmp/a\x00b", "/tmp/\ud800", Path("a\x00"), b"/tmp/x", 5, ["a"]])
async def test_what_can_be_no_folder_is_refused_by_name(folder: Any) -> None:
    for make in (lambda: TaskContext({}, folder), lambda: MemoryContext({}, folder), lambda: JsonStore(folder)):
        with pytest.raises(InvalidDatabaseUrlError, match=r"folder has|path belongs"):
            make()
    if isinstance(folder, str):
        with pytest.raises(InvalidDatabaseUrlError, match=r"folder has|\(NUL\)"):
            await open_store(f"json:///{folder}")


@pytest.mark.parametrize(
    "address",
    [
        "sqlite://tasks.db", "sqlite://./tasks.db", "sqlite://host:1/x.db", "sqlite:tasks.db", "sqlite:///a%00b.db",
        "json:///a%00b", "sqlite:///x.db?timeout=soon", "sqlite:///file:x.db?uri=true&mode=all",
        "sqlite:///x.db?uri=perhaps", "sqlite:///x.db?timeout=1&timeout=2",
        "sqlite:///:memory:?mode=ro", "sqlite:///file:x?cache=shared", "sqlite:///x.db?cipher=aes",
        "postgresql://me@host:99999/db",
    ],
)  # fmt: skip
async def test_a_mistyped_address_is_refused_as_one(address: str) -> None:
    with pytest.raises(InvalidDatabaseUrlError):
        await open_store(address)


@pytest.mark.parametrize(
    "parameter",
    [
        "channel_binding=perhaps", "sslrootcert=/x.pem", "pgbouncer=perhaps", "schema=public", "keepalives=yes",
        "connect_timeout=soon", "port=soon", "port=0", "port=1,x", "port=1&port=x", "sslmode=yes",
        "target_session_attrs=all", "statement_cache_size=few", "transaction_pooling=perhaps", "timeout=1&timeout=2",
    ],
)  # fmt: skip
async def test_a_parameter_that_no_driver_takes_is_named(parameter: str) -> None:
    for use in (open_store, schema.upgrade, schema.current):
        with pytest.raises(InvalidDatabaseUrlError, match=f"the parameter {parameter.partition('=')[0]} "):
            await use(f"postgresql://me@localhost:1/db?{parameter}")


async def test_parameters_that_libpq_knows_reach_the_server(postgres_url: str) -> None:
    parameters = "connect_timeout=10&application_name=agents&statement_cache_size=0&command_timeout=9.5"
    url = f"{postgres_url}{'&' if '?' in postgres_url else '?'}{parameters}&transaction_pooling=False"
    engine = engines.create_engine(engines.parse_url(url))
    async with engine.connect() as connection:
        assert await connection.scalar(sa.text("SHOW application_name")) == "agents"
    await engine.dispose()
    async with open_store(url) as store:
        assert list(await store.contexts("nobody")) == []
    assert engines.is_pooled(engines.parse_url(f"{postgres_url}&transaction_pooling=TRUE"))


@pytest.mark.parametrize(
    "name", ["a b", "a%20b", "a%23b", "a#b", "a%3Fb", "ü", "a&b=c", "a;b", "a+b", "a'b", "a:b", "[x]", "c:@d"]
)
async def test_every_way_takes_an_address_for_the_same_file(name: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/{name}"
    assert missing_file(url) is not None
    async with open_store(url) as store:
        context = TaskContext({"user_id": "u", "chat_id": "c"}, store=store)
        context.add_context_update("message", "kept")
        await context.save()
    assert missing_file(url) is None
    assert json_folder(f"json:///{tmp_path}/{name}").exists()


@pytest.mark.parametrize("address", ["sqlite:///\udcff.db", "postgresql://me@host/\udcff", "\ud800://x"])
async def test_an_address_that_is_no_text_is_refused(address: str) -> None:
    for way in (SqlStore.open, schema.upgrade, schema.current, open_store):
        with pytest.raises(InvalidDatabaseUrlError, match="not UTF-8"):
            await way(address)
    assert "\udcff" not in engines.mask(address)


@pytest.mark.parametrize("name", ["a?b", "a%20b", "a#b", "ü [x] 'y'", "a\nb", "50%"])
async def test_the_address_that_is_told_of_a_folder_leads_to_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = JsonStore(tmp_path / name)
    context = TaskContext({"user_id": "u", "chat_id": "c"}, store=store)
    context.add_context_update("message", "kept")
    await context.save()
    assert json_folder(store.database_url) == tmp_path / name
    async with open_store(store.database_url) as again:
        assert len((await again.load(context.key)).history) == 1
    assert json_folder((await examine(store.database_url)).database_url) == tmp_path / name
    moved = await copy(store.database_url, json_address(tmp_path / f"copy of {name}"))
    assert (moved.ok, json_folder(moved.target)) == (True, tmp_path / f"copy of {name}")
    monkeypatch.setenv("AIECS_TASK_DIR", str(tmp_path / name))
    assert diagnose_history_loading_issue(user_id="u", chat_id="c").ok


@pytest.mark.parametrize("name", ["a?b", "a%20b", "a#b", "ü [x] 'y'", "a\nb", "50%"])
async def test_the_address_of_a_path_names_that_path(name: str, tmp_path: Path) -> None:
    async with open_store(file_address("sqlite", tmp_path / name)):
        assert (tmp_path / name).exists()
    assert json_folder(file_address("json", tmp_path / name)) == tmp_path / name


async def test_a_shared_database_in_memory_opens() -> None:
    for address in ("sqlite:///file:shared?mode=memory&cache=shared&uri=true", "sqlite:///file::memory:?uri=true"):
        async with open_store(address) as store:
            context = TaskContext({"user_id": "u", "chat_id": "c"}, store=store)
            context.add_context_update("message", "kept")
            await context.save()
            await context.load()
            assert [update.data for update in context.context_history] == ["kept"]


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_that_cannot_hold_every_text_is_refused_when_it_is_upgraded(
    encoding: str, postgres_server: str
) -> None:
    name = f"taskctx_test_{uuid.uuid4().hex[:12]}"
    engine = create_async_engine(engines.parse_url(postgres_server), isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        made = f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        await connection.exec_driver_sql(made)
    url = sa.make_url(postgres_server).set(database=name).render_as_string(hide_password=False)
    with pytest.raises(UnsupportedEncodingError, match=f"character set {encoding}.*ENCODING 'UTF8'"):
        await schema.upgrade(url)
    assert await schema.current(url) is None
    async with engine.connect() as connection:
        await connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    await engine.dispose()


async def test_so_is_a_sqlite_file_in_utf_16(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        connection.execute("PRAGMA encoding = 'UTF-16'")
        connection.execute("CREATE TABLE theirs (x)")
    with pytest.raises(UnsupportedEncodingError, match="UTF-16"):
        await schema.upgrade(f"sqlite:///{tmp_path}/x.db")


@pytest.mark.parametrize("use", [open_store, schema.upgrade, schema.current])
def test_another_event_loop_than_asyncios_is_told_what_is_needed(use: Any, database_url: str) -> None:
    # As another library's loop would: it sends into the coroutine where no loop of asyncio runs.
    if database_url.startswith("sqlite:"):
        Path(database_url.removeprefix("sqlite:///")).touch()
    waiting = use(database_url).__await__()
    with pytest.raises(AsyncioNeededError, match="asyncio"):
        next(waiting)


async def test_a_folder_says_that_it_needs_asyncio(tmp_path: Path) -> None:
    store = JsonStore(tmp_path)
    context = TaskContext({"user_id": "u", "chat_id": "c"}, store=store)
    context.add_context_update("message", "kept")
    for work in (
        store.contexts("u"),
        store.load(context.key),
        context.load(),
        context.save(),
        store.delete(context.key),
    ):
        # As an event loop of another kind would take its first step.
        with pytest.raises(AsyncioNeededError, match="asyncio"):
            await asyncio.to_thread(work.send, None)
    await context.save()
    assert len((await store.load(context.key)).history) == 1


async def test_a_store_of_asyncio_is_of_no_use_elsewhere_and_says_so(sql_store: SqlStore) -> None:
    work = sql_store.load(ContextKey("u", "c"))
    with pytest.raises(AsyncioNeededError):
        await asyncio.to_thread(work.send, None)


async def test_an_opening_that_waits_for_a_database_can_be_cancelled_at_once() -> None:
    for opening in (SqlStore.open, open_store):
        waiting = asyncio.ensure_future(opening("postgresql://me@127.0.0.1:1/db"))
        await asyncio.sleep(0.2)
        waiting.cancel()
        async with asyncio.timeout(SOON):
            with pytest.raises(asyncio.CancelledError):
                await waiting
